"""Names that programs share without sharing code: every other place must use the names in attributes.py."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from dyno_analysis.compaction.retention import parse_keep
from dyno_analysis.errors import InputError
from dyno_driver import baggage
from dyno_driver.load.schedule import Load, Turn
from dyno_proxy.attributes import ATTRIBUTES, BAGGAGE
from dyno_proxy.config.check import KEEP
from dyno_proxy.exchange.trace_context import read_baggage
from dyno_proxy.metrics.metrics import Metrics

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = {attribute.name for attribute in ATTRIBUTES}
SQL_FILES: Final = sorted((ROOT / "analysis" / "dyno_analysis").rglob("*.sql"))
DASHBOARDS: Final = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))


def test_the_drivers_baggage_reaches_the_proxy() -> None:
    """The proxy accepts each key that the driver sends, and its value arrives unchanged."""
    turn = Turn("metis", "Wärme & co, 50 %", 2, warmup=True, load=Load(8, 2.5))
    due = baggage.Due(1_795_823_996_000_000, 0.00125)
    sent = baggage.headers("20261123_120000_ab12", "single", turn, "a" * 32, "b" * 16, due)["baggage"]
    keys = [member.partition("=")[0] for member in sent.split(",")]
    assert len(keys) == 9
    assert set(keys) <= set(BAGGAGE)
    taken = read_baggage([sent])
    assert taken == {
        "dyno.run.id": "20261123_120000_ab12",
        "dyno.workload": "single",
        "dyno.prompt.id": "Wärme & co, 50 %",
        "dyno.repeat": 2,
        "dyno.warmup": True,
        "dyno.load.concurrency": 8,
        "dyno.load.rate_per_s": 2.5,
        "dyno.due_at_unix_us": 1_795_823_996_000_000,
        "dyno.send_lag_s": 0.00125,
    }


def test_sql_asks_for_attributes_that_exist() -> None:
    """Each `dyno.` name in a .sql file is an attribute. A misspelt name would be NULL, and nobody would notice."""
    asked = {
        (path.name, name)
        for path in SQL_FILES
        for name in re.findall(r"'(dyno\.[a-z_.]+)'", path.read_text(encoding="utf-8"))
    }
    assert len(SQL_FILES) >= 30
    assert len(asked) >= 50
    assert [each for each in sorted(asked) if each[1] not in NAMES] == []


def test_dashboards_ask_for_metrics_and_labels_that_exist() -> None:
    """`/metrics` exposes each series that a dashboard names, with each label by which it selects or groups."""
    metrics = Metrics("0")
    suffixes = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    families = list(metrics.registry.collect())
    exposed = {family.name + suffixes[family.type] for family in families}
    exposed |= {family.name + end for family in families if family.type == "histogram" for end in ("_sum", "_count")}
    expressions = [
        target["expr"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", [])
    ]
    labels = _labels(metrics) | {"le", "instance", "job"}
    assert len(expressions) >= 10
    for expression in expressions:
        series = set(re.findall(r"\b(?:dyno|gen_ai)_\w+", re.sub(r"\{[^}]*\}", "", expression)))
        assert series, expression
        assert series <= exposed, expression
        grouped = {
            label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in re.split(r",\s*", group)
        }
        selected = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression))
        assert grouped | selected <= labels, expression


def _labels(metrics: Metrics) -> set[str]:
    """The labels of all families. prometheus_client keeps them under a private name."""
    collectors: dict[Any, Any] = metrics.registry._collector_to_names
    return {label for collector in collectors for label in getattr(collector, "_labelnames", ())}


@pytest.mark.parametrize(
    "text",
    [
        *("1h", "12h", "30d", "500MB", "10GB", "1TB", "0h", "01d", "", "h", "10", "10 GB", "1.5GB", "10gb", "30D"),
        *("-1d", "10GB\n", "10KB", "1w", "٣d", "10GBx", "9999999d", "99999d", "100000d", "1000000h", "inf", "1e9d"),
    ],
)
def test_keep_is_configured_as_compact_takes_it(text: str) -> None:
    """`spans.keep` in dyno.toml and `dyno compact --keep` accept the same values: a proxy passes the value on."""
    try:
        parse_keep(text)
        accepted = True
    except InputError:
        accepted = False
    assert bool(KEEP.fullmatch(text)) == accepted
