"""docs/proxy.md is what the code is: every key with its default, every outcome, every error, every metric."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dyno_proxy.attributes import BAGGAGE, OUTCOMES
from dyno_proxy.config.schema import CollectorConfig, EndpointConfig, ProxyConfig, SpansConfig
from dyno_proxy.metrics.metrics import MODELS_LIMIT, Metrics
from dyno_proxy.process.proxy import NEEDS_RESTART
from dyno_proxy.readers import content
from dyno_proxy.server import mirror
from dyno_proxy.telemetry import telemetry
from dyno_proxy.telemetry.journal import DISK, NOT_STORABLE
from dyno_proxy.telemetry.otlp import OTLP_FAILED, OTLP_QUEUE_FULL
from rigs.records import record

REPOSITORY: Final = Path(__file__).parents[2]
TEXT: Final = (REPOSITORY / "docs" / "proxy.md").read_text(encoding="utf-8")
SOURCES: Final = sorted((REPOSITORY / "proxy" / "dyno_proxy").rglob("*.py"))


def section(title: str) -> str:
    """What stands below a heading, up to the next."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[1]


def table(title: str, number: int = 0) -> list[list[str]]:
    """The cells of the section's nth table, without its head."""
    tables = re.findall(r"(?:^\|.*\|\n)+", section(title), re.MULTILINE)
    return [line.strip("|").strip().split(" | ") for line in tables[number].strip().splitlines()[2:]]


def named(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def keys_of(struct: type[msgspec.Struct], prefix: str = "") -> dict[str, str]:
    """Each key, a table's as `table.key` → its default as TOML has it."""
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
        ("`[endpoints.NAME]`", EndpointConfig),
    ],
)
def test_every_key_and_its_default(title: str, struct: type[msgspec.Struct]) -> None:
    """In the order of config/schema.py, each once, with a meaning."""
    rows = table(title)
    assert {named(key)[0]: default for key, default, _ in rows} == keys_of(struct)
    assert [named(key)[0] for key, _, _ in rows] == list(keys_of(struct))
    assert all(meaning for _, _, meaning in rows)


def test_what_needs_a_restart() -> None:
    (sentence,) = [line for line in section("Signals and exit codes").splitlines() if "waits for a restart" in line]
    assert sorted(named(sentence)) == sorted(NEEDS_RESTART)


def test_every_metric() -> None:
    """Name, type and labels are those of the text that is served."""
    metrics = Metrics("0.1.0")
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
    assert f"at most {MODELS_LIMIT} different ones" in section("Metrics")


def test_why_spans_are_dropped_and_copies_not_sent() -> None:
    """The few values of the labels `reason` and `result`."""
    (reasons,) = [line for line in section("Metrics").splitlines() if line.startswith("`reason` is")]
    assert set(named(reasons)[1:]) == {
        *(telemetry.QUEUE_FULL, telemetry.CLOSED, telemetry.INTERNAL_ERROR),
        *(OTLP_QUEUE_FULL, OTLP_FAILED, DISK, NOT_STORABLE),
    }
    results = section("Mirror").partition("what became of those that were chosen:")[2]
    assert set(named(results)) == {mirror.SENT, mirror.LIMIT, mirror.NOT_JSON, mirror.FAILED}


def test_the_tags_of_a_baggage() -> None:
    assert [name for name in named(section("Traces")) if name.startswith("dyno.")] == list(BAGGAGE)


def test_every_outcome() -> None:
    assert [named(outcome)[0] for outcome, _, _ in table("Outcomes")] == list(OUTCOMES)


def test_every_error_type() -> None:
    """What the sources say is in the table, where they say it beside its outcome; and nothing else is."""
    documented = {named(outcome)[0]: set(named(types)) for outcome, _, types in table("Outcomes")}
    refused = {named(code)[0] for _, code, _ in table("Outcomes", 1)} | {"client_too_slow"}
    pairs = set(said_with_their_outcome())
    for outcome, error_type in pairs:
        assert error_type in (refused if outcome == "rejected" else documented[outcome])
    of_others = set().union(*documented.values()) - {"429", "client_cancelled"}  # a status, an outcome's own name
    assert of_others == {each for outcome, each in pairs if outcome != "rejected"} | set(said_alone())


def test_every_refusal() -> None:
    """Each with its status."""
    assert sorted((int(status), named(code)[0]) for status, code, _ in table("Outcomes", 1)) == sorted(set(refusals()))


def said_with_their_outcome() -> Iterator[tuple[str, str]]:
    """Wherever two strings stand side by side of which the first is an outcome's name."""
    for node in nodes():
        texts = [each.value if isinstance(each, ast.Constant) else None for each in arguments(node)]
        for outcome, error_type in pairwise(texts):
            if outcome in OUTCOMES and isinstance(error_type, str) and error_type not in OUTCOMES:
                yield str(outcome), error_type


def said_alone() -> Iterator[str]:
    """Beside an outcome that a variable holds, as the end of a time limit's tuple, in a variable, by a reader."""
    for node in nodes():
        match node:
            case ast.Tuple(elts=[ast.Name("outcome"), ast.Constant(str(error_type))]):
                yield error_type
            case ast.Tuple(elts=[*_, ast.Constant(str(error_type))]) if error_type.endswith("_timeout"):
                yield error_type
            case ast.Assign(targets=[ast.Name("lost")], value=value):
                texts = [each.value for each in ast.walk(value) if isinstance(each, ast.Constant)]
                yield from (text for text in texts if isinstance(text, str))
            case ast.Call(func=ast.Attribute(attr="refuse"), args=[ast.Name(name)]):
                yield getattr(content, name)


def refusals() -> Iterator[tuple[int, str]]:
    for node in nodes():
        match node:
            case ast.Call(
                func=ast.Name("RefusedError") | ast.Attribute(attr="_refuse_head"),
                args=[ast.Constant(int(status)), ast.Constant(str(code)), *_],
            ):
                yield status, code


def nodes() -> Iterator[ast.AST]:
    for path in SOURCES:
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def arguments(node: ast.AST) -> list[ast.expr]:
    """A tuple's elements, a call's positional arguments."""
    return node.elts if isinstance(node, ast.Tuple) else node.args if isinstance(node, ast.Call) else []
