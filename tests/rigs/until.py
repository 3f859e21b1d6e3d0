"""Waits until a condition holds: no longer than it takes, and on a busy machine as long as it takes."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final

# Far longer than anything here takes, even if other programs use all cores. Only what never comes reaches this limit.
LIMIT_S: Final = 60.0
# For what takes some ms, also on such a machine; test_aborts.py says how many.
AT_ONCE_S: Final = 5.0


async def until(look: Callable[[], object], what: str, limit_s: float = LIMIT_S, every_s: float = 0.01) -> None:
    """Wait until `look()` is true; it may return a coroutine. Raises TimeoutError, which says `what` was waited for."""
    end_s = time.monotonic() + limit_s
    while True:
        found = look()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        if time.monotonic() > end_s:
            raise TimeoutError(_said(what, limit_s))
        await asyncio.sleep(every_s)


def until_in_thread(look: Callable[[], object], what: str, limit_s: float = LIMIT_S, every_s: float = 0.01) -> None:
    """`until` for code without an event loop."""
    end_s = time.monotonic() + limit_s
    while not look():
        if time.monotonic() > end_s:
            raise TimeoutError(_said(what, limit_s))
        time.sleep(every_s)


def _said(what: str, limit_s: float) -> str:
    return f"waited {limit_s:g} s for {what}"
