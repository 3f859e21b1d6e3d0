import pytest

from dyno_driver.load.punctuality import Measured, largest_lag_s, why_invalid
from dyno_driver.load.schedule import Load

RATE = Load(None, 100.0)


@pytest.mark.parametrize(("rate_per_s", "bound_s"), [(100.0, 0.010), (1.0, 0.010), (0.1, 0.1), (1e4, 0.010)])
def test_the_bound_of_a_lag(rate_per_s: float, bound_s: float) -> None:
    """10 ms, and at low rates 1 % of the time between two requests."""
    assert largest_lag_s(rate_per_s) == pytest.approx(bound_s)


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        (Measured(RATE, [0.001] * 1000, [0.001] * 90, 1.0, 10.0), None),
        (Measured(RATE, [0.001] * 990 + [0.5] * 10, [], 1.0, 10.0), None),  # exactly 1 %
        (
            Measured(RATE, [0.001] * 989 + [0.5] * 11, [], 1.0, 10.0),
            "100 a second: 1.1 % of the requests left over 10 ms",
        ),
        (Measured(RATE, [0.001] * 9 + [0.5], [], 1.0, 10.0), None),  # one is no rule
        (Measured(RATE, [0.001] * 8 + [0.5] * 2, [], 1.0, 10.0), "20 % of the requests left over 10 ms late"),
        (Measured(RATE, [], [0.0] * 50 + [0.2] * 2, 1.0, 10.0), "event loop was held up for over 50 ms 3.85 % of"),
        (Measured(RATE, [], [], 9.1, 10.0), "the driver took 91 % of a core"),
        (Measured(RATE, [], [], 0.2, 0.1), None),  # too short to say
        (Measured(Load(8), [0.5] * 10, [0.5] * 10, 10.0, 10.0), None),  # a closed loop has no rate
    ],
)
def test_when_a_load_is_invalid_for_rate(measured: Measured, why: str | None) -> None:
    """By lag, by the event loop, by CPU, each with its size; a single late request isn't enough."""
    said = why_invalid(measured)
    assert said is None if why is None else why in (said or "")
