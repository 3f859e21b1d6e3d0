"""A curve that only falls, or only rises, through points of unequal weight. Pure."""

import numpy as np

from .interval import Array


def falling(values: Array, weights: Array) -> Array:
    """The least-squares fit that never rises, by pooling adjacent violators.

    Source: Barlow, Bartholomew, Bremner and Brunk, Statistical Inference under Order Restrictions (1972), section 1.2.
    The values are in the order of their loads; weights are above 0.
    """
    return -rising(-values, weights)


def rising(values: Array, weights: Array) -> Array:
    """The least-squares fit that never falls."""
    means: list[float] = []
    sums: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        means.append(value)
        sums.append(weight)
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            total = sums[-2] + sums[-1]
            means[-2:] = [(means[-2] * sums[-2] + means[-1] * sums[-1]) / total]
            sums[-2:] = [total]
            sizes[-2:] = [sizes[-2] + sizes[-1]]
    return np.repeat(np.asarray(means, dtype=np.float64), sizes)
