"""The memory that all exchanges of a process may keep together, in bytes of their bodies. Pure.

Each exchange has bounds of its own. This one is for many at once: what doesn't fit is passed on as ever, and isn't
kept.
"""

from typing import Final

KEPT_BYTES: Final = 256 * 1024 * 1024


class Budget:
    """Counts what is kept. Whoever takes bytes gives them back, exactly once."""

    __slots__ = ("limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Whether so much more may be kept. If so, it counts from now on."""
        if self.used_bytes + size_bytes > self.limit_bytes:
            return False
        self.used_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """So much is no longer kept."""
        self.used_bytes -= size_bytes


ALL: Final = Budget(KEPT_BYTES)  # this process' exchanges
