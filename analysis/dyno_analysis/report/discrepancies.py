"""Compares an imported results file's own statistics with its requests, and says why they differ. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .comparison import Comparison, Lengths

NOT_IN_FILE = "not in the file"

# Two figures are the same, one written with fewer digits, if they differ by at most this share.
SAME = 1e-4

# Where a file has each figure of the comparison table: the keys to try, our own files' before the published shape's.
_PATHS = {
    "mean_latency_s": (("latency", "mean"),),
    "median_latency_s": (("latency", "median"),),
    "min_latency_s": (("latency", "min"),),
    "max_latency_s": (("latency", "max"),),
    "stddev_latency_s": (("latency", "std_dev"),),
    "output_tokens_per_s": (("throughput_tokens_per_sec",),),
    "mean_output_tokens": (("output_tokens", "mean"), ("tokens", "mean")),
    "ok": (("successful_requests",),),
    "requests": (("num_requests",),),
}


def published_figure(statistics: Mapping[str, Any], figure: str) -> float | None:
    """A figure from the file's statistics; None if they don't have it."""
    for path in _PATHS[figure]:
        value: object = statistics
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def discrepancies(comparison: Comparison) -> list[str]:
    """A sentence for each of the file's figures that isn't what its name says."""
    record = comparison.record
    if record is None:
        return []
    found = []
    for name in comparison.endpoints:
        statistics = record.published.get(name)
        points = comparison.lengths[name]
        if not statistics or not len(points.latency_s):
            continue
        found += [f"{name}, as published: {what}" for what in _differences(statistics, points)]
    return found


def _differences(statistics: Mapping[str, Any], points: Lengths) -> list[str]:
    found = []
    median = published_figure(statistics, "median_latency_s")
    ordered = np.sort(points.latency_s)
    upper_middle = float(ordered[len(ordered) // 2])
    if _same(median, upper_middle) and not _same(median, float(np.median(ordered))):
        found.append(
            f"the median is the upper middle value of an even number of requests ({upper_middle:.3f} s), "
            f"not the mean of the two middle ones ({float(np.median(ordered)):.3f} s)"
        )
    total_tokens = points.input_tokens + points.output_tokens
    with_prompt = float(total_tokens.sum()) / float(points.latency_s.sum())
    output_alone = float(points.output_tokens.sum()) / float(points.latency_s.sum())
    throughput = published_figure(statistics, "output_tokens_per_s")
    if _same(throughput, with_prompt) and not _same(throughput, output_alone):
        found.append(
            f"the throughput includes prompt tokens ({with_prompt:.2f} tok/s; output only: {output_alone:.2f})"
        )
    length = published_figure(statistics, "mean_output_tokens")
    prompt, output = float(points.input_tokens.mean()), float(points.output_tokens.mean())
    if _same(length, prompt + output) and not _same(length, output):
        found.append(
            f"the response length includes the prompt ({prompt + output:.1f} tokens = "
            f"{prompt:.1f} of the prompt + {output:.1f} of output)"
        )
    return found


def _same(published: float | None, recomputed: float) -> bool:
    return published is not None and abs(published - recomputed) <= SAME * abs(recomputed)
