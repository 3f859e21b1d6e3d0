"""The pauses before a process is started again."""

import pytest

from dyno_proxy.process.backoff import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, Backoff


@pytest.mark.parametrize(
    ("lives_s", "pauses_s"),
    [
        ([0.0], [0.1]),
        ([0.0] * 9, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]),
        ([0.0, 9.9, 9.9], [0.1, 0.2, 0.4]),
        ([0.0, 0.0, 10.0, 0.0], [0.1, 0.2, 0.1, 0.2]),
        ([3600.0, 3600.0], [0.1, 0.1]),
    ],
    ids=["the first", "up to the longest", "short lives", "a steady life resets it", "steady lives"],
)
def test_pauses(lives_s: list[float], pauses_s: list[float]) -> None:
    """Each pause is twice the one before, up to the longest.

    After a process has run steadily, the pauses begin anew.
    """
    backoff = Backoff()
    assert [backoff.pause_s(lived_s) for lived_s in lives_s] == pytest.approx(pauses_s)


def test_two_processes_wait_apart() -> None:
    """A process that keeps ending doesn't delay another one's start."""
    failing, other = Backoff(), Backoff()
    for _ in range(20):
        failing.pause_s(0.0)
    assert failing.pause_s(0.0) == LONGEST_PAUSE_S
    assert other.pause_s(STEADY_S / 2) == FIRST_PAUSE_S
