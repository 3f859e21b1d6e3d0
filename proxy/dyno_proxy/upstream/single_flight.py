"""One call for all callers who need its result at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SharedCall(Generic[Result]):
    """A call that is made once for all who ask while it runs. A caller that is cancelled leaves it to the others."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._call = call
        self._task: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """The result, or the exception, of the call that runs; without one, of a new call."""
        task = self.start()
        await asyncio.wait((task,))
        return task.result()

    def start(self) -> asyncio.Task[Result]:
        """Start the call, unless it runs already; returns its task, which nobody has to await."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._call())
            self._task.add_done_callback(_retrieve)
        return self._task


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the exception, if any: asyncio would log one that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
