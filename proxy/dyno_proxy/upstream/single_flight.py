"""One call for all who need its result at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SharedCall(Generic[Result]):
    """Made once for all who ask while it is under way. Whoever is cancelled leaves it running for the others."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._call = call
        self._task: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """The result, or the exception, of the call under way, or of a new one."""
        task = self.start()
        await asyncio.wait((task,))
        return task.result()

    def start(self) -> asyncio.Task[Result]:
        """The call under way, or a new one; nobody has to wait for it."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._call())
            self._task.add_done_callback(_retrieve)
        return self._task


def _retrieve(task: asyncio.Task[Any]) -> None:
    """An exception that nobody waits for any more is no fault of the program."""
    if not task.cancelled():
        task.exception()
