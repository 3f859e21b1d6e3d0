"""How long to wait before a process that has ended is started again. Pure: times are arguments."""

from typing import Final

STEADY_S: Final = 10.0  # a process that lived so long is started again after the first pause
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0


class Backoff:
    """One process's pauses: each is twice the one before, until the process lives for STEADY_S."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def pause_s(self, lived_s: float) -> float:
        """The pause before the next start. `lived_s`: how long the last start lasted, 0 where it failed."""
        if lived_s >= STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s
