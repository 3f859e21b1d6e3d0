"""A token bucket: so many requests a second, and after a rest so many at once. Pure.

It is the generic cell rate algorithm (ITU-T I.371): one number holds the bucket's state, and each request is told at
once how long it has to wait, so those that wait leave in the order in which they came.
"""


class Bucket:
    """Lets `per_s` requests a second pass, and `burst` at once after a rest. Times are s of one monotonic clock."""

    def __init__(self, per_s: float, burst: int = 1) -> None:
        self.per_s = per_s
        self._gap_s = 1 / per_s
        self._ahead_s = (burst - 1) * self._gap_s
        self._next_s = float("-inf")  # when the next would leave, if there were no burst

    def take(self, now_s: float) -> float:
        """Take a place in the line. Returns how long to wait for it, in s; 0 or more."""
        leaves_s = max(now_s, self._next_s - self._ahead_s)
        self._next_s = max(self._next_s, now_s) + self._gap_s
        return leaves_s - now_s
