"""Makes one call for all who need its result at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SharedCall(Generic[Result]):
    """A call that runs once for all who ask while it runs. If one of them is cancelled, it runs on for the others."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._call = call
        self._task: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        """Wait for the running call, or for a new one if none runs. Returns its result, or raises its exception."""
        task = self.start()
        await asyncio.wait((task,))
        return task.result()

    def start(self) -> asyncio.Task[Result]:
        """The running call, or a new one if none runs. The caller need not wait for it."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._call())
            self._task.add_done_callback(_retrieve)
        return self._task


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the task's exception, so that asyncio doesn't complain of one that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
