"""attributes.py is the only source of names. It agrees with the conventions, with itself, and with the record."""

import re
from collections import Counter
from types import ModuleType
from typing import Final, get_type_hints

import pytest
from opentelemetry.semconv import schemas
from opentelemetry.semconv._incubating.attributes import (
    client_attributes,
    error_attributes,
    gen_ai_attributes,
    http_attributes,
    server_attributes,
    session_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

from dyno_proxy.attributes import ATTRIBUTES, BAGGAGE, SCHEMA_URL, Attribute
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.record import AS_CONTENT, AS_EXCHANGE, STAMPED, Record
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.outcomes import OUTCOMES
from dyno_proxy.readers import Content
from dyno_proxy.telemetry.span import COLUMNS

CONVENTIONS: Final[dict[str, ModuleType]] = {
    "gen_ai.": gen_ai_attributes,
    "http.": http_attributes,
    "url.": url_attributes,
    "server.": server_attributes,
    "session.": session_attributes,
    "error.": error_attributes,
    "client.": client_attributes,
    "user_agent.": user_agent_attributes,
}
# Of the GenAI conventions since they have a repository of their own, which no package holds yet
NEWER: Final = {"gen_ai.request.reasoning.level"}
TYPES: Final = {"string", "int", "float", "bool", "string[]", "int[]"}
BY_NAME: Final = {attribute.name: attribute for attribute in ATTRIBUTES}


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.name)
def test_each_name_is_the_conventions_or_ours(attribute: Attribute) -> None:
    """A name outside `dyno.` is a constant of the installed conventions. A name of ours never uses their prefixes."""
    if attribute.name.startswith("dyno.") or attribute.name in NEWER:
        return
    module = next(module for prefix, module in CONVENTIONS.items() if attribute.name.startswith(prefix))
    assert attribute.name in vars(module).values()


def test_the_schema_url_is_one_of_the_conventions() -> None:
    """The version is 1.41, the last one before the GenAI conventions moved to their own repository."""
    assert schemas.Schemas.V1_41_0.value == SCHEMA_URL


def test_names_and_columns_are_unique_and_well_formed() -> None:
    """No attribute and no column occurs twice. Each has a known type, a plain column name and a meaning."""
    columns = [column for column, _ in COLUMNS]
    assert max(Counter(attribute.name for attribute in ATTRIBUTES).values()) == 1
    assert max(Counter(columns).values()) == 1
    for attribute in ATTRIBUTES:
        assert attribute.type in TYPES
        assert attribute.meaning
        assert attribute.column is None or re.fullmatch(r"[a-z][a-z0-9_]*", attribute.column)


def test_the_columns_of_a_line() -> None:
    """A row has nine columns of the span itself, then the attributes' columns in the table's order, then the map."""
    assert [column for column, _ in COLUMNS] == [
        *("v", "seq", "trace_id", "span_id", "parent_span_id", "name", "kind", "started_at_us", "duration_us"),
        *(attribute.column for attribute in ATTRIBUTES if attribute.column is not None),
        "attributes",
    ]


def test_units_are_in_the_names() -> None:
    """The name of a time ends in its unit, whole µs or fractional s. This holds for an attribute and its column."""
    for attribute in ATTRIBUTES:
        unit = attribute.name.rpartition("_")[2]
        if unit in ("us", "s") and attribute.name.startswith("dyno."):
            assert attribute.type.removesuffix("[]") == {"us": "int", "s": "float"}[unit]
            assert attribute.column is None or attribute.column.endswith(f"_{unit}")


def test_baggage_names_are_attributes_with_a_column() -> None:
    """Every tag of the driver has a column, so that it can be queried."""
    assert BAGGAGE
    assert all(BY_NAME[name].column is not None for name in BAGGAGE)


def test_each_field_of_a_record_has_its_attribute() -> None:
    """No measured value is forgotten: each field is an attribute's source, or the span itself holds it."""
    of_the_span = {
        *("trace_id", "span_id", "parent_span_id", "started_at_unix_us", "duration_us"),
    }
    sources = {attribute.source for attribute in ATTRIBUTES}
    fields = set(Record.__struct_fields__)
    assert fields - sources == of_the_span
    # Made of first_event_us; and not the proxy's.
    assert {attribute.name for attribute in ATTRIBUTES if attribute.source not in fields} == {
        *("gen_ai.response.time_to_first_chunk", "dyno.imported_from"),
    }


def test_a_record_has_its_fields_types_from_where_they_come() -> None:
    """`finish` copies many fields by name. Each has the same type at its source and in the record."""
    record, exchange, content = (get_type_hints(each) for each in (Record, Exchange, Content))
    content["finish_reasons"] = get_type_hints(vars(Content)["finish_reasons"].fget)["return"]
    for name in AS_EXCHANGE:
        assert exchange[name] == record[name], name
    for name in AS_CONTENT:
        assert content[name] == record[name], name
    for name in STAMPED:
        assert exchange[name.removesuffix("_us") + "_ns"] == record[name], name


def test_outcomes_are_these_eleven() -> None:
    """Reports, dashboards and stored spans use these names."""
    assert (
        *("ok", "http_error", "rate_limited", "auth", "upstream_unreachable", "upstream_timeout", "truncated"),
        *("stream_error", "client_cancelled", "rejected", "lost"),
    ) == OUTCOMES


@pytest.mark.parametrize(
    ("constant", "unit"),
    [
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION, "_seconds"),
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, "_seconds"),
        (gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_PER_OUTPUT_CHUNK, "_seconds"),
        (gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE, ""),
    ],
)
def test_metrics_bear_the_conventions_names(constant: str, unit: str) -> None:
    """Metrics have the conventions' names as Prometheus writes them: dots become underscores, and the unit follows."""
    names = {family.name for family in Metrics("0").registry.collect()}
    assert constant.replace(".", "_") + unit in names


def test_conventional_metrics_are_no_more_than_those() -> None:
    """No metric is named `gen_ai.server.*`. A server reports such times, and the proxy is the server's client."""
    names = {family.name for family in Metrics("0").registry.collect()}
    assert all(name.startswith(("gen_ai_client_", "dyno_")) for name in names)
