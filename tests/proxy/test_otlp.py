"""export/: OTLP gets the spans that the sampler chooses, of the span files, each once, whatever the endpoint does."""

import time
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from dyno_proxy.attributes import SCHEMA_URL, SCOPE_NAME
from dyno_proxy.export.state import Broken, locked
from dyno_proxy.file_modes import PRIVATE
from dyno_proxy.metrics.otlp_figures import STATE
from rigs.otlp_export import ExportRig, Writer, ids, logged, numbered
from rigs.otlp_receiver import OtlpReceiver, Reply
from rigs.records import record

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


def test_otlp_gets_the_span(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """The span decoded from protobuf agrees with the journal's row: ids, kind, times, attributes, resource, scope,
    schema."""
    failing = record(span_id=2, outcome="http_error", error_type="500", status=500, tracestate="a=1")
    Writer(tmp_path).put(record(), failing)
    ExportRig(tmp_path).send()
    span, failed = receiver.taken
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.span_id.hex() == "b7ad6b7169203331"
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.name == "chat gpt-oss-120b"
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        1_795_557_540_000_001_000,
        1_795_557_540_300_501_000,
    )
    attributes = {attribute.key: attribute.value for attribute in span.attributes}
    assert attributes["gen_ai.response.time_to_first_chunk"].double_value == 0.1995
    assert attributes["gen_ai.usage.output_tokens"].int_value == 6
    assert [item.int_value for item in attributes["dyno.chunk.offsets_us"].array_value.values] == [
        *(200_000, 220_000, 240_000, 260_000, 280_000)
    ]
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.trace_state == "a=1"
    (resource,) = {each.resource.SerializeToString(): each for each in receiver.resources}.values()
    named = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert (named["service.name"], named["service.version"]) == ("dyno-proxy", "0.1.0")
    scope = resource.scope_spans[0]
    assert (scope.scope.name, scope.scope.version, scope.schema_url) == (SCOPE_NAME, "0.1.0", SCHEMA_URL)


@pytest.mark.parametrize(
    ("sampler", "argument", "sent"),
    [
        (None, None, {"root", "sampled"}),  # parentbased_always_on, the SDK's default
        ("parentbased_always_on", None, {"root", "sampled"}),
        ("always_on", None, {"root", "sampled", "not sampled"}),
        ("always_off", None, set()),
        ("parentbased_always_off", None, {"sampled"}),
        ("traceidratio", "0", set()),
        ("parentbased_traceidratio", "0", {"sampled"}),
        ("parentbased_traceidratio", "1", {"root", "sampled"}),
    ],
)
def test_the_sampler_decides_what_otlp_gets(
    tmp_path: Path,
    receiver: OtlpReceiver,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str | None,
    argument: str | None,
    sent: set[str],
) -> None:
    """OTEL_TRACES_SAMPLER works as in the SDK. What isn't sampled is counted, and no loss."""
    for name, value in (("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)):
        if value is not None:
            monkeypatch.setenv(name, value)
    Writer(tmp_path).put(
        record(response_id="root", parent_span_id=None, sampled=None),
        record(response_id="sampled", sampled=True),
        record(response_id="not sampled", sampled=False),
    )
    figures = ExportRig(tmp_path).send().figures
    received = {
        attribute.value.string_value
        for span in receiver.taken
        for attribute in span.attributes
        if attribute.key == "gen_ai.response.id"
    }
    assert received == sent
    assert (figures.sent, figures.unsampled, figures.dropped) == (len(sent), 3 - len(sent), {})


def test_the_services_name_and_limits_are_the_users(
    tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our defaults; headers, compression and limits hold."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "5")
    Writer(tmp_path).put(record())
    ExportRig(tmp_path).send()
    named = {attribute.key: attribute.value.string_value for attribute in receiver.resources[0].resource.attributes}
    assert named["service.name"] == "theirs"
    assert named["service.version"] == "9"
    assert named["deployment.environment.name"] == "test"
    assert receiver.heads[0]["x-tenant"] == "a b"
    (span,) = receiver.taken
    assert len(span.attributes) == 5
    assert span.dropped_attributes_count > 0
    assert max(len(attribute.value.string_value) for attribute in span.attributes) == 3


# What was sent


def test_each_row_once_over_restarts(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """An exporter goes on where the one before it stopped, over journals, in the order of the rows."""
    writer = Writer(tmp_path, journal_bytes=4_000)
    for first in range(1, 100, 20):
        writer.put(*numbered(20, first))
        ExportRig(tmp_path).send()
    assert len(list(tmp_path.glob("*Z-*.jsonl"))) > 3
    assert ids(receiver.came) == list(range(1, 101))
    assert ExportRig(tmp_path).send().figures.sent == 100


def test_several_exporters_send_nothing_twice(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Two exporters on a folder take turns. While a third process holds the lock, neither sends."""
    writer = Writer(tmp_path)
    one, other = ExportRig(tmp_path), ExportRig(tmp_path)
    for first in range(1, 60, 10):
        writer.put(*numbered(10, first))
        one.send()
        other.send()
    writer.put(*numbered(10, 61))
    with locked(tmp_path, PRIVATE) as held:
        assert held
        assert not one.exporter.round(final=True)
        assert len(receiver.came) == 60
    other.send()
    one.send()
    assert ids(receiver.came) == list(range(1, 71))
    assert one.figures.sent == 70


def test_a_batch_waits_for_others(tmp_path: Path, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span is sent when a batch is full, or after OTEL_BSP_SCHEDULE_DELAY. The very first one doesn't wait: so the
    log says at once where the endpoint refuses."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    writer, rig = Writer(tmp_path), ExportRig(tmp_path)
    writer.put(*numbered(1))
    rig.exporter.round()
    assert ids(receiver.came) == [1]
    writer.put(*numbered(9, 2))
    assert not rig.exporter.round()
    assert ids(receiver.came) == [1]
    writer.put(*numbered(3, 11))
    rig.exporter.round()
    assert ids(receiver.came) == list(range(1, 12))
    rig.send()
    assert ids(receiver.came) == list(range(1, 14))


def test_the_past_is_not_sent(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """What was stored before the folder's first export isn't sent, and isn't a loss."""
    writer = Writer(tmp_path)
    writer.put(*(record(span_id=number, started_at_unix_us=1_000_000) for number in range(1, 6)))
    rig = ExportRig(tmp_path, from_us=2**60).send()
    assert not receiver.came
    assert (rig.figures.sent, rig.figures.dropped) == (0, {})


def test_imported_rows_are_not_sent(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """They are somebody else's."""
    writer = Writer(tmp_path)
    writer.put(*numbered(2))
    (journal,) = tmp_path.glob("*Z-*.jsonl")
    journal.rename(tmp_path / "import_0a1b-000000000001.jsonl")
    ExportRig(tmp_path).send()
    assert not receiver.came


def test_torn_and_broken_lines(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """A torn tail waits until it is whole. A line whose checksum is wrong counts as lost, and the rest is sent."""
    writer = Writer(tmp_path)
    writer.put(*numbered(3))
    (journal,) = tmp_path.glob("*Z-*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    broken = lines[1].replace(b'"chat gpt', b'"chat gxt')
    journal.write_bytes(lines[0] + broken + lines[2][:-50])
    rig = ExportRig(tmp_path).send()
    assert ids(receiver.came) == [1]
    journal.write_bytes(lines[0] + broken + lines[2].removesuffix(b"\n"))
    rig.send()
    assert ids(receiver.came) == [1, 3]
    assert rig.figures.dropped == {"not_stored": 1}
    journal.write_bytes(lines[0] + broken + lines[2])
    rig.send()
    assert ids(receiver.came) == [1, 3]


def test_what_the_journal_lost_is_counted(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Numbers that no row has are spans that the disk didn't take."""
    writer = Writer(tmp_path)
    writer.put(*numbered(2))
    for _ in range(7):
        writer.journal.next_seq()
    writer.put(*numbered(1, 3))
    rig = ExportRig(tmp_path).send()
    assert ids(receiver.came) == [1, 2, 3]
    assert rig.figures.dropped == {"not_stored": 7}


# An endpoint that fails


def test_an_endpoint_that_is_away_loses_nothing(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused connections, 503 and answers that don't come: spans wait, and the log says it once."""
    writer, rig = Writer(tmp_path), ExportRig(tmp_path)
    receiver.stop()
    writer.put(*numbered(10))
    for _ in range(3):
        rig.send()
    assert rig.exporter.left() == 10
    assert rig.figures.oldest_us == 1_795_557_540_300_501
    receiver.start()
    receiver.behave = lambda _spans: Reply(503, headers=(("Retry-After", "1"),))
    rig.send()
    receiver.behave = lambda _spans: Reply(0)
    rig.send()
    receiver.behave = lambda _spans: Reply()
    begun_s = time.monotonic()
    rig.send()
    assert time.monotonic() - begun_s < 5.0
    assert ids(receiver.taken)[-10:] == list(range(1, 11))
    assert {*ids(receiver.taken)} == {*range(1, 11)}
    assert rig.figures.sent == 10
    assert rig.figures.oldest_us is None
    said = logged(caplog)
    assert said[0].endswith("connection refused. Spans wait in the span files, and are sent later")
    assert said[-1] == f"OTLP: '{receiver.url}/v1/traces' takes spans again"
    assert len(said) <= 4


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(404), "status 404; the path of OTLP over HTTP ends in /v1/traces"),
        (Reply(401, "who?"), "status 401: who?; set OTEL_EXPORTER_OTLP_HEADERS"),
        (Reply(302, headers=(("Location", "https://h/v1/traces"),)), "it leads to https://h/v1/traces"),
        (Reply(400, "not json"), "status 400: not json"),
    ],
)
def test_an_endpoint_that_refuses_for_good(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture, reply: Reply, said: str
) -> None:
    """The log says at once why, with what to mend. No span is dropped: they are sent once it is mended."""
    Writer(tmp_path).put(*numbered(40))
    receiver.behave = lambda _spans: reply
    rig = ExportRig(tmp_path).send()
    (entry,) = logged(caplog)
    assert said in entry
    assert rig.figures.dropped == {}
    receiver.behave = lambda _spans: Reply()
    rig.send()
    assert ids(receiver.taken) == list(range(1, 41))


def test_a_span_that_is_refused_costs_no_other(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """An endpoint that takes others refuses one with 400: that one is dropped, and counted."""
    Writer(tmp_path).put(*numbered(50))
    receiver.behave = lambda spans: Reply(400, "17?") if 17 in ids(spans) else Reply()
    rig = ExportRig(tmp_path).send()
    assert ids(receiver.taken) == [number for number in range(1, 51) if number != 17]
    assert (rig.figures.sent, rig.figures.dropped) == (49, {"refused": 1})


def test_partial_success_is_counted(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """The endpoint says that it rejected two of the spans."""
    Writer(tmp_path).put(*numbered(5))
    receiver.behave = lambda _spans: Reply(rejected=2)
    figures = ExportRig(tmp_path).send().figures
    assert (figures.sent, figures.dropped) == (3, {"refused": 2})


def test_what_waits_too_long_is_dropped(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows older than `[otlp] keep` aren't sent any more, but counted and logged; newer ones are."""
    now_us = time.time_ns() // 1000
    writer = Writer(tmp_path)
    writer.put(*numbered(3), *(record(span_id=number, started_at_unix_us=now_us) for number in (4, 5)))
    rig = ExportRig(tmp_path, keep_s=3600.0).send()
    assert ids(receiver.came) == [4, 5]
    assert rig.figures.dropped == {"too_old": 3}
    assert "waited longer than [otlp] keep" in caplog.text


def test_a_state_that_cannot_be_read_is_said(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Nothing is sent on a guess: the message says what to do."""
    Writer(tmp_path).put(*numbered(1))
    (tmp_path / STATE).write_text("{}\nbroken\n", encoding="utf-8")
    with pytest.raises(Broken, match="can't be read"):
        ExportRig(tmp_path).send()
    assert not receiver.came


def test_mended_values(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """Protobuf holds neither 10**30 nor a lone surrogate. A span with such a value still arrives with the others."""
    Writer(tmp_path).put(record(span_id=1), record(span_id=2, seed=10**30, model="\ud800"), record(span_id=3))
    assert ExportRig(tmp_path).send().figures.sent == 3
    assert ids(receiver.taken) == [1, 2, 3]
