"""Sets of numbers as ranges: in order, and apart from each other. Pure."""

from bisect import bisect_right
from collections.abc import Sequence

Range = tuple[int, int]  # the first and the last number


def contains(ranges: Sequence[Range], number: int) -> bool:
    """Whether the number is in one of the ranges."""
    at = bisect_right(ranges, number, key=lambda each: each[0]) - 1
    return at >= 0 and number <= ranges[at][1]


def add(ranges: list[Range], number: int) -> None:
    """Add a number. Next to the last range this takes no search."""
    if ranges and number == ranges[-1][1] + 1:
        ranges[-1] = (ranges[-1][0], number)
        return
    at = bisect_right(ranges, number, key=lambda each: each[0])
    first = last = number
    if at < len(ranges) and ranges[at][0] == number + 1:
        last = ranges.pop(at)[1]
    if at and ranges[at - 1][1] >= number - 1:
        first, before = ranges[at - 1]
        last = max(last, before)
        at -= 1
        ranges.pop(at)
    ranges.insert(at, (first, last))
