"""A file descriptor that is held back, so that a file can be opened when the process has no other one left."""

import errno
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

_NONE_LEFT: Final = (errno.EMFILE, errno.ENFILE)
_TRIES: Final = 50
_PAUSE_S: Final = 0.02

Opened = TypeVar("Opened")


class SpareDescriptor:
    """Holds /dev/null open, and gives it up for `opening`."""

    def __init__(self) -> None:
        self._spare: int | None = None
        self._take()

    def opening(self, make: Callable[[], Opened]) -> Opened:
        """What `make` returns. If it finds no descriptor, it gets the spare one; after that it is tried for a second.

        Raises what `make` raises. It may wait, so the event loop must not call it.
        """
        for left in reversed(range(_TRIES)):
            try:
                made = make()
                break
            except OSError as error:
                if error.errno not in _NONE_LEFT or not left:
                    raise
                if self._spare is None:
                    time.sleep(_PAUSE_S)
                self.close()
        self._take()
        return made

    def close(self) -> None:
        """Hold none from now on."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _take(self) -> None:
        if self._spare is None:
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # none is left; the next opening tries again
                self._spare = None
