"""How long to wait before an endpoint that failed is tried again. Pure: times are arguments."""

from typing import Final

_FIRST_S: Final = 0.5
_LONGEST_S: Final = 30.0
_SLOW_S: Final = 30.0  # where somebody has to mend something
_LONGEST_ASKED_S: Final = 300.0  # by Retry-After


class Waits:
    """The pauses between tries: each is twice the one before, until one works."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S
        self._until_s = 0.0

    def failed(self, now_s: float, *, slow: bool = False, least_s: float = 0.0) -> None:
        """A try has failed. `least_s`: how long the endpoint asks to wait."""
        pause_s = max(_SLOW_S if slow else self._next_s, min(least_s, _LONGEST_ASKED_S))
        self._until_s = now_s + pause_s
        self._next_s = min(self._next_s * 2, _LONGEST_S)

    def worked(self) -> None:
        """A try has worked."""
        self._next_s = _FIRST_S
        self._until_s = 0.0

    def pause_s(self, now_s: float) -> float:
        """How long to wait still."""
        return max(0.0, self._until_s - now_s)
