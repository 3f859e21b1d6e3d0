"""Waiting for what comes in its own time: as short as it takes, and on a busy machine as long as it takes."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final

# Far above what anything here takes, also where others use all cores: only what never comes meets it.
LIMIT_S: Final = 60.0
# For what needs some ms, on such a machine too; test_aborts.py says how many.
AT_ONCE_S: Final = 5.0


async def until(look: Callable[[], object], what: str, limit_s: float = LIMIT_S, every_s: float = 0.01) -> None:
    """Wait until `look()` is true; it may be a coroutine's. Raises TimeoutError, which says `what` was waited for."""
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
    """`until` without a loop."""
    end_s = time.monotonic() + limit_s
    while not look():
        if time.monotonic() > end_s:
            raise TimeoutError(_said(what, limit_s))
        time.sleep(every_s)


def _said(what: str, limit_s: float) -> str:
    return f"waited {limit_s:g} s for {what}"
