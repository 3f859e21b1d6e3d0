"""docs/proxy.md agrees with the code: every key with its default, every metric, every tag."""

import re
from pathlib import Path
from typing import Final

import msgspec
import pytest
from opentelemetry.sdk import environment_variables
from prometheus_client.parser import text_string_to_metric_families

from dyno_proxy.attributes import BAGGAGE
from dyno_proxy.config.schema import CollectorConfig, EndpointConfig, OtlpConfig, ProxyConfig, SpansConfig
from dyno_proxy.metrics.metrics import SERIES_LIMIT, Metrics
from dyno_proxy.metrics.otlp_figures import REASONS
from dyno_proxy.process.proxy import NEEDS_RESTART
from dyno_proxy.server import mirror
from dyno_proxy.telemetry import telemetry
from dyno_proxy.telemetry.journal import DISK, NOT_STORABLE
from rigs.records import record

REPOSITORY: Final = Path(__file__).parents[2]
TEXT: Final = (REPOSITORY / "docs" / "proxy.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading, up to the next heading."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[1]


def table(title: str, number: int = 0) -> list[list[str]]:
    """The cells of the section's nth table, without the table's head."""
    tables = re.findall(r"(?:^\|.*\|\n)+", section(title), re.MULTILINE)
    return [line.strip("|").strip().split(" | ") for line in tables[number].strip().splitlines()[2:]]


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def keys_of(struct: type[msgspec.Struct], prefix: str = "") -> dict[str, str]:
    """Each key → its default as TOML writes it. A key of a table is `table.key`."""
    keys: dict[str, str] = {}
    for field in msgspec.structs.fields(struct):
        kinds = [kind for kind in getattr(field.type, "__args__", (field.type,)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, msgspec.Struct)), None)
        if inner is not None:
            keys |= keys_of(inner, f"{field.name}.")
        elif field.default is msgspec.NODEFAULT:
            keys[prefix + field.name] = "required"
        else:
            keys[prefix + field.name] = (
                "none" if field.default is None else f"`{msgspec.json.encode(field.default).decode()}`"
            )
    return keys


@pytest.mark.parametrize(
    ("title", "struct"),
    [
        ("`[proxy]`", ProxyConfig),
        ("`[spans]`", SpansConfig),
        ("`[collector]`", CollectorConfig),
        ("`[otlp]`", OtlpConfig),
        ("`[endpoints.NAME]`", EndpointConfig),
    ],
)
def test_every_key_and_its_default(title: str, struct: type[msgspec.Struct]) -> None:
    """The page has each key once, in the order of config/schema.py, with its default and a meaning."""
    rows = table(title)
    assert {named(key)[0]: default for key, default, _ in rows} == keys_of(struct)
    assert [named(key)[0] for key, _, _ in rows] == list(keys_of(struct))
    assert all(meaning for _, _, meaning in rows)


def test_what_needs_a_restart() -> None:
    (sentence,) = [line for line in section("Signals and exit codes").splitlines() if "waits for a restart" in line]
    assert sorted(named(sentence)) == sorted(NEEDS_RESTART)


def test_every_metric() -> None:
    """The page has the name, type and labels of every metric that `/metrics` serves."""
    metrics = Metrics("0.1.0", otlp_of=Path("nowhere"))
    metrics.started("e")
    metrics.finished(record())
    metrics.observe(record())
    metrics.spans_dropped("disk", 1)
    metrics.mirrored("e", "sent")
    served = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(metrics.render()[0].decode())
    }
    assert {named(name)[0]: (kind, set(named(labels))) for name, kind, labels, _ in table("Metrics")} == served
    assert f"at most {SERIES_LIMIT} different ones" in section("Metrics")


def test_why_spans_are_dropped_and_copies_not_sent() -> None:
    """The page lists all values of the labels `reason` and `result`."""
    (reasons,) = [line for line in section("Metrics").splitlines() if line.startswith("`reason` is")]
    assert set(named(reasons)[1:]) == {
        *(telemetry.QUEUE_FULL, telemetry.CLOSED, telemetry.INTERNAL_ERROR, telemetry.KILLED),
        *(DISK, NOT_STORABLE),
    }
    (of_otlp,) = [line for line in section("Metrics").splitlines() if line.startswith("The `reason` of")]
    assert {*REASONS} <= set(named(of_otlp))
    results = section("Mirror").partition("what became of those that were chosen:")[2]
    assert set(named(results)) == {mirror.SENT, mirror.LIMIT, mirror.NOT_JSON, mirror.FAILED}


def test_the_tags_of_a_baggage() -> None:
    assert [name for name in named(section("Traces")) if name.startswith(("dyno.", "session."))] == list(BAGGAGE)


def test_every_variable_that_is_checked() -> None:
    """The table of OpenTelemetry's variables has each one that the code looks at, and each that the SDK documents."""
    listed = {name for row in table("OpenTelemetry's variables") for name in named(row[0])}
    code = (REPOSITORY / "proxy" / "dyno_proxy" / "telemetry" / "otlp_settings.py").read_text(encoding="utf-8")
    assert set(re.findall(r'"(OTEL_[A-Z_]+[A-Z])"', code)) <= listed
    suffixes = set(re.findall(r'PREFIX\}(?:TRACES_)?([A-Z_]+)"', code)) | {"PROTOCOL", "CERTIFICATE", "CLIENT_KEY"}
    assert {f"OTEL_EXPORTER_OTLP_{suffix}" for suffix in suffixes} <= listed
    documented = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    others = tuple(name.removesuffix("*") for name in listed if name.endswith("*"))
    unnamed = {name for name in documented - listed if not name.startswith(others)}
    assert {name for name in unnamed if name.replace("_TRACES_", "_") not in listed} == set()
