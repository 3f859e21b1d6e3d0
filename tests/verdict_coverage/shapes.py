"""How latencies may be distributed: the shapes that the verdicts are tried on. Pure; the generator is an argument."""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

# A rare slow mode: this share of the requests takes this many times as long.
SLOW_SHARE: Final = 0.1
SLOW_TIMES: Final = 5.0


class Shape(NamedTuple):
    """A distribution of positive times: one row of the drawn array is a run, one column a prompt."""

    name: str
    draw: Draw
    mean_log: float = math.nan  # where it is used
    mean: float = math.nan


def lognormal(sigma: float) -> Draw:
    return lambda rng, size: rng.lognormal(0, sigma, size)


def pareto(alpha: float) -> Draw:
    return lambda rng, size: 1 + rng.pareto(alpha, size)


def normal(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """A fifth of the mean as standard deviation; five of them below the mean it is cut off."""
    return np.maximum(rng.normal(1, 0.2, size), 1e-3)


def bimodal(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Half of the requests take three times as long as the others."""
    return np.where(rng.random(size) < 0.5, 1.0, 3.0) * rng.lognormal(0, 0.05, size)


def spiky(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    return np.where(rng.random(size) < SLOW_SHARE, SLOW_TIMES, 1.0) * rng.lognormal(0, 0.1, size)


# Two endpoints of one shape, drawn independently.
SHAPES: Final = (
    Shape("normal, 20 %", normal),
    Shape("lognormal 0.5", lognormal(0.5)),
    Shape("lognormal 1", lognormal(1)),
    Shape("bimodal, 1 and 3", bimodal),
    Shape("Pareto 2.5", pareto(2.5)),
    Shape("Pareto 1.5", pareto(1.5)),
    Shape("spiky: a tenth at 5 times", spiky),
)
# What a prompt itself does to the time of both endpoints, times what each does by chance.
SHARED: Final = "shared prompt effects"
PROMPT_EFFECT: Final = lognormal(1)
OWN_NOISE: Final = lognormal(0.3)
# A steady endpoint, and those that it is compared with.
STEADY: Final = Shape("steady", lognormal(0.02), 0.0, math.exp(0.02**2 / 2))
UNEQUAL: Final = (
    Shape("lognormal 0.5", lognormal(0.5), 0.0, math.exp(0.125)),
    Shape("lognormal 1", lognormal(1), 0.0, math.exp(0.5)),
    Shape("Pareto 2.5", pareto(2.5), 1 / 2.5, 2.5 / 1.5),
    Shape(
        "a tenth at 5 times",
        spiky,
        SLOW_SHARE * math.log(SLOW_TIMES),
        math.exp(0.005) * (1 + SLOW_SHARE * (SLOW_TIMES - 1)),
    ),
)


def both(name: str, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """The times of two identical endpoints."""
    if name == SHARED:
        prompts = PROMPT_EFFECT(rng, size)
        return prompts * OWN_NOISE(rng, size), prompts * OWN_NOISE(rng, size)
    draw = next(shape.draw for shape in SHAPES if shape.name == name)
    return draw(rng, size), draw(rng, size)
