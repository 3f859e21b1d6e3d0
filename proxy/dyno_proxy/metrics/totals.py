"""What a proxy did from its start to its end, in a line for its operator."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import Metric


def totals_line(families: Iterable[Metric]) -> str:
    """`families`: all of a registry's, up to date."""
    outcomes: Counter[str] = Counter()
    written = lost = 0
    for sample in (sample for family in families for sample in family.samples):
        count = int(sample.value)
        if sample.name == "dyno_requests_total":
            outcomes[sample.labels["outcome"]] += count
        elif sample.name == "dyno_spans_written_total":
            written += count
        elif sample.name == "dyno_spans_dropped_total":
            lost += count
    parts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common() if count)
    requests = _number(outcomes.total(), "request") + (f" ({parts})" if parts else "")
    return f"dyno proxy: ended after {requests}; {_number(written, 'span')} written, {lost:,} lost"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
