"""What answers and tokens cost by the configured list prices, and the energy by the configured power. Pure.

cost of an answer = (input tokens x input price + output tokens x output price) / 1,000,000, the means over ok requests.
cost of an output token = that / output tokens: the prompt's share is in it.
energy of an answer = power x latency; of an output token = that / output tokens. As if the endpoint served this request
alone: one that serves several at once takes less for each.
"""

from collections.abc import Mapping
from typing import Any

from dyno_analysis.render.table import UNKNOWN, Table

from .comparison import Comparison
from .titles import titled

_MILLION = 1_000_000


def cost_table(comparison: Comparison) -> Table | None:
    """Cost and energy of each endpoint that has a price or a power; None if no endpoint has one."""
    rows = [row for name in comparison.endpoints if (row := _row(comparison, name))]
    if not rows:
        return None
    columns = ["", "cost an answer", "cost a million output tokens", "energy an answer, J", "energy an output token, J"]
    notes = [
        "Estimates, not measurements: list prices in the configuration's own currency x mean tokens of ok requests,",
        "and the configured power x mean latency, as if the endpoint had served this request alone.",
    ]
    return Table(titled("Cost and energy, estimated", comparison), columns, "lrrrr", rows, notes, "cost-and-energy")


def estimates(
    price: Mapping[str, Any],
    power_w: float | None,
    input_tokens: float | None,
    output_tokens: float | None,
    latency_s: float | None,
) -> tuple[float | None, float | None, float | None, float | None]:
    """Cost of an answer and of a million output tokens, energy in J of an answer and of an output token."""
    into, out = _number(price.get("input_per_million")), _number(price.get("output_per_million"))
    cost = None
    if into is not None and out is not None and input_tokens is not None and output_tokens is not None:
        cost = (input_tokens * into + output_tokens * out) / _MILLION
    energy_j = None if power_w is None or latency_s is None else power_w * latency_s
    return (
        cost,
        cost / output_tokens * _MILLION if cost is not None and output_tokens else None,
        energy_j,
        energy_j / output_tokens if energy_j is not None and output_tokens else None,
    )


def _row(comparison: Comparison, name: str) -> list[str] | None:
    told = _told(comparison, name)
    price, power_w = told.get("price"), _number(told.get("power_w"))
    price = price if isinstance(price, dict) else {}
    if not price and power_w is None:
        return None
    figures = comparison.figures[name]
    found = estimates(price, power_w, figures.mean_input_tokens, figures.mean_output_tokens, figures.mean_latency_s)
    return [name, *(UNKNOWN if value is None else f"{value:.4g}" for value in found)]


def _told(comparison: Comparison, name: str) -> Mapping[str, Any]:
    """What the newest run of the column's says of its endpoint."""
    origin = comparison.origin(name)
    told: Mapping[str, Any] = {}
    for record in comparison.records:
        if origin.run_id in (None, record.run_id) and isinstance(record.endpoints.get(origin.endpoint), dict):
            told = record.endpoints[origin.endpoint]
    return told


def _number(value: object) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value
