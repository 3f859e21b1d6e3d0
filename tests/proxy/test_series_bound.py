"""However many models clients invent, `/metrics` stays of a bearable size, and says how much it left out."""

from prometheus_client.parser import text_string_to_metric_families

from dyno_proxy.metrics.metrics import OTHER, SERIES_LIMIT, Metrics
from rigs.records import record, seen


def counts(text: bytes) -> dict[tuple[str, str], float]:
    """(endpoint, model) → how many requests ended."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == "dyno_requests_total":
                key = (sample.labels["endpoint"], sample.labels["model"])
                found[key] = found.get(key, 0) + sample.value
    return found


def overflowed(text: bytes) -> float:
    (value,) = (line.split()[1] for line in text.split(b"\n") if line.startswith(b"dyno_other_model_requests_total "))
    return float(value)


def test_series_are_bounded_altogether() -> None:
    """Endpoints, operations and outcomes don't multiply the bound; configured models keep series of their own."""
    names: dict[str, str | None] = {f"e{number}": f"m{number}" for number in range(10)}
    metrics = Metrics("0.1.0", names)
    attack = [
        record(model=f"made up {number}", endpoint=f"e{number % 10}", operation=operation, outcome=outcome)
        for number in range(300)
        for operation in ("chat", "text_completion", "embeddings")
        for outcome in ("ok", "truncated", "client_cancelled", "stream_error")
    ]
    seen(metrics, *attack, *(record(endpoint=name, model=model) for name, model in names.items()))
    text, _ = metrics.render()
    assert text.count(b"\n") < 60_000
    ended = counts(text)
    assert [ended[name, model] for name, model in names.items() if model is not None] == [1.0] * len(names)
    others = sum(count for (_, model), count in ended.items() if model == OTHER)
    assert overflowed(text) == others == len(attack) - 4 * SERIES_LIMIT


def test_workers_share_the_bound() -> None:
    """Each worker of four has its part."""
    metrics = Metrics("0.1.0", {}, None, 4)
    seen(metrics, *(record(model=f"made up {number}") for number in range(200)))
    assert overflowed(metrics.render()[0]) == 200 - SERIES_LIMIT // 4
