"""`dyno import` of OTLP: our own spans come back whole, in every framing of the Collector's file exporter."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from dyno_analysis.ingest.otlp.genai import genai_row
from dyno_analysis.ingest.otlp.json_spans import json_spans
from dyno_analysis.ingest.otlp.protobuf_spans import protobuf_spans
from dyno_analysis.ingest.otlp.span import OtlpSpan
from dyno_analysis.ingest.staged import JOURNAL_BYTES
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.columns import ATTRIBUTE_COLUMNS, attribute_text
from dyno_proxy import attributes
from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry import span
from dyno_proxy.telemetry.journal import JournalExporter
from rigs.dyno_command import dyno, refusal
from rigs.otlp_files import framed, in_otlp, json_line, protobuf, readable
from rigs.records import record, records, unstreamed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def some(count: int = 6) -> list[ReadableSpan]:
    """Streams, an unstreamed answer, failures, a mirrored copy; ids differ."""
    changes: list[dict[str, Any]] = [
        {},
        {"temperature": 1.0, "retry_after_s": 2.0, "model": "gpt-öss"},
        {"outcome": "http_error", "status": 503, "error_type": "503"},
        {"mirror": "copy", "mirror_trace_id": "0a" * 16, "mirror_span_id": "0b" * 8},
        {"parent_span_id": None, "baggage": {}, "finish_reasons": ("stop", "length")},
    ]
    made = [record(span_id=1 + number, **changes[number % len(changes)]) for number in range(count - 1)]
    return [readable(one) for one in [*made, unstreamed(span_id=1000)]]


def stored(folder: Path) -> list[tuple[Any, ...]]:
    """All rows, but for the file that they came from and their place in it."""
    with span_folder.connect(folder) as connection:
        return connection.execute(
            "SELECT * EXCLUDE (imported_from, writer, seq) "
            "REPLACE (started_at::VARCHAR AS started_at, due_at::VARCHAR AS due_at) "
            "FROM spans ORDER BY span_id, trace_id"
        ).fetchall()


def journal(folder: Path, spans: Sequence[ReadableSpan]) -> Path:
    folder.mkdir()
    exporter = JournalExporter(folder, written=lambda _: None, dropped=lambda *_: None)
    exporter.export(spans)
    exporter.shutdown()
    return folder


def run(path: Path, folder: Path, *, code: int = 0) -> tuple[str, list[str]]:
    """Import a file; returns what it said, and its complaints."""
    done = dyno("import", path, "--spans", folder)
    assert done.returncode == code, done
    return done.stdout, done.stderr.splitlines()


@settings(max_examples=60, deadline=None)
@given(st.lists(records().map(in_otlp), min_size=1, max_size=3))
def test_any_span_of_ours_comes_back_field_by_field(made: list[Record]) -> None:
    """Whatever the proxy can store, OTLP's JSON and protobuf bring back as the same row."""
    spans = [readable(one) for one in made]
    expected = [span.span_row(one, 1) for one in spans]
    for found in (json_spans(json.loads(json_line(spans))), protobuf_spans(protobuf(spans))):
        assert [row(one) for one in found] == expected


def row(found: OtlpSpan | str) -> dict[str, object]:
    assert isinstance(found, OtlpSpan)
    made = genai_row(found)
    assert made is not None
    return {"v": 2, "seq": 1} | {key: value for key, value in made.items() if value not in (None, {}, [])}


def files(spans: Sequence[ReadableSpan], messages_of: int = 2) -> Iterator[tuple[str, bytes]]:
    """The spans in so many messages, in each framing."""
    size = len(spans) // messages_of
    parts = [spans[at : at + size] for at in range(0, len(spans), size)]
    lines = b"".join(json_line(part) + b"\n" for part in parts)
    messages = framed(*map(protobuf, parts))
    yield "JSON lines", lines
    yield "JSON lines, gzip", gzip.compress(lines, mtime=0)
    yield "JSON lines, zstd", zstd.compress(lines)
    yield "JSON lines, a zstd frame a message", b"".join(zstd.compress(json_line(part) + b"\n") for part in parts)
    yield "JSON, each message zstd", framed(*(zstd.compress(json_line(part)) for part in parts))
    yield "protobuf", messages
    yield "protobuf, gzip", gzip.compress(messages, mtime=0)
    yield "protobuf, zstd", zstd.compress(messages)
    yield "protobuf, each message zstd", framed(*(zstd.compress(protobuf(part)) for part in parts))
    yield "a document over many lines", json.dumps(json.loads(json_line(spans)), indent=1).encode()


FRAMINGS = [name for name, _ in files(some())]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_framing_of_the_collector(tmp_path: Path, framing: str) -> None:
    """The SQL rows equal those of the span files that the proxy wrote, whatever the file's name; again adds nothing."""
    spans = some()
    path = tmp_path / "traces.json"
    path.write_bytes(dict(files(spans))[framing])
    said, complaints = run(path, tmp_path / "b")
    assert ("6 requests added" in said, complaints) == (True, [])
    assert stored(tmp_path / "b") == stored(journal(tmp_path / "a", spans))
    assert "0 requests added; 6 already stored" in run(path, tmp_path / "b")[0]
    assert len(stored(tmp_path / "b")) == 6


def test_what_the_proxy_wrote_itself_is_known(tmp_path: Path) -> None:
    """A row is known by its ids, whoever stored it; a span that is sent twice counts once."""
    spans = some()
    folder = journal(tmp_path / "a", spans[:4])
    before = sorted(path.name for path in folder.iterdir())
    path = tmp_path / "traces.jsonl"
    path.write_bytes(json_line(spans) + b"\n" + json_line(spans[2:]) + b"\n")
    assert "2 requests added; 8 already stored" in run(path, folder)[0]
    assert stored(folder) == stored(journal(tmp_path / "b", spans))
    assert len([name for name in map(str, folder.iterdir()) if "import" in name]) == 1
    assert set(before) < {path.name for path in folder.iterdir()}


def test_broken_lines_are_named_skipped_and_counted(tmp_path: Path) -> None:
    """All that isn't broken is read; each complaint has file and line; the exit code is 1."""
    good = json_line(some())
    bad = json.loads(good)
    one = bad["resourceSpans"][0]["scopeSpans"][0]["spans"]
    one[0]["traceId"] = "xyz"
    one[1]["startTimeUnixNano"] = "0"
    one[2]["spanId"] = "ab"
    one[3]["attributes"] = 7
    lines = [good[:40], json.dumps(bad).encode(), b"", b"[]", b'{"resourceSpans": 3}', b'{"resourceLogs": []}']
    path = tmp_path / "traces.json"
    path.write_bytes(b"\n".join([*lines, good.replace(b"0af76519", b"1af76519")]))
    said, complaints = run(path, tmp_path / "s", code=1)
    assert "8 requests added" in said
    assert "1 message of metrics or logs left out" in said
    start = f"dyno import: '{path}', line "
    assert [line.removeprefix(start).partition(":")[0] for line in complaints] == ["1", "2", "2", "2", "2", "4", "5"]
    for line, what in zip(
        complaints,
        (
            "broken JSON",
            "'traceId' must be hex, not 'xyz'",
            "it has no start",
            "'spanId' has 1 bytes, not 8",
            "'attributes' must be a list of objects",
            "it isn't an OTLP message",
            "'resourceSpans' must be a list of objects",
        ),
        strict=True,
    ):
        assert what in line


@pytest.mark.parametrize("framing", [name for name in FRAMINGS if "document" not in name])
def test_a_truncated_file_keeps_what_was_whole(tmp_path: Path, framing: str) -> None:
    """Cut in its second part or at its very end, a file's whole messages are rows, and the exit code says the rest."""
    spans = [readable(record(span_id=number, response_id=f"{number * 7919:x}")) for number in range(1, 401)]
    content = dict(files(spans, 40))[framing]
    for cut in (len(content) // 2, len(content) * 4 // 5, len(content) - 1):
        done, rows = import_beginning(tmp_path, content, cut)
        if done.returncode == 0 and rows < 400:  # cut between two messages, or before a line's end: nobody can tell
            done, rows = import_beginning(tmp_path, content, cut - 2)
        assert 10 <= rows <= 400
        assert rows % 10 == 0  # of a message, all or nothing
        if done.returncode:
            assert done.returncode == 1
            assert done.stderr.startswith(f"dyno import: '{tmp_path}/")
            assert done.stderr.count("\n") == 1
        else:
            assert (rows, framing) == (400, "JSON lines")  # the last line's end alone is missing


def import_beginning(folder: Path, content: bytes, cut: int) -> tuple[subprocess.CompletedProcess[str], int]:
    """What importing the content's first bytes said, and how many rows came of it."""
    path = folder / f"{cut}"
    path.write_bytes(content[:cut])
    done = dyno("import", path, "--spans", folder / f"s{cut}")
    return done, len(stored(folder / f"s{cut}"))


def test_a_file_cut_before_its_kind_is_known(tmp_path: Path) -> None:
    """The error says that the file is cut off."""
    path = tmp_path / "x.zst"
    path.write_bytes(zstd.compress(json_line(some()))[:-20])
    assert "is cut off before its kind can be recognised" in refusal("import", path, "--spans", tmp_path / "s")


def test_a_message_that_is_none(tmp_path: Path) -> None:
    """A message that isn't protobuf, or isn't zstd, is left out; after an impossible length, the rest is left out."""
    spans = some()
    whole = protobuf(spans)
    torn = zstd.compress(whole)[:-8]
    path = tmp_path / "traces"
    path.write_bytes(framed(whole, b"\x0a\xff\xff", torn) + b"\x7f\xff\xff\xff" + whole)
    said, complaints = run(path, tmp_path / "s", code=1)
    assert "6 requests added" in said
    assert [line.partition(",")[2].partition(":")[0] for line in complaints] == [
        " message 2",
        " message 3",
        " message 4",
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\0\1\2", b"hello\n", b"PAR1\0\0", b"a,b\n1,2\n", gzip.compress(b"hello", mtime=0)]
)
def test_an_unknown_kind_is_one_line_that_names_the_kinds(tmp_path: Path, content: bytes) -> None:
    """Content decides, not the name; nothing of the other files is stored either."""
    good, path = tmp_path / "good.jsonl", tmp_path / "traces.jsonl"
    good.write_bytes(json_line(some()))
    path.write_bytes(content)
    line = refusal("import", good, path, "--spans", tmp_path / "spans")
    assert line.startswith(f"dyno import: '{path}' is of no kind that can be imported")
    assert "OTLP spans" in line
    assert "GuideLLM" in line
    assert not (tmp_path / "spans").exists()


def test_an_import_that_was_killed_is_completed(tmp_path: Path) -> None:
    """Files that a killed import has left aren't read; the next import removes them, and adds its rows."""
    folder = tmp_path / "s"
    left = folder / ".import-dead"
    left.mkdir(parents=True)
    (left / "import_dead-000000000001.jsonl").write_text("{")
    path = tmp_path / "traces.jsonl"
    path.write_bytes(json_line(some()))
    assert "6 requests added" in run(path, folder)[0]
    assert [name.name for name in folder.iterdir() if name.name.startswith(".")] == []


def test_two_imports_at_once(tmp_path: Path) -> None:
    """The second waits for the first, and then knows its rows."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(lines_of(200)))
    command = [sys.executable, "-m", "dyno", "import", str(path), "--spans", str(tmp_path / "s")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0] for process in running)
    assert "0 requests added; 1,200 already stored" in said[0]
    assert "1,200 requests added" in said[1]
    assert len(stored(tmp_path / "s")) == 1200


def test_many_rows_become_several_journals(tmp_path: Path) -> None:
    """No journal is larger than the proxy's own, and none holds a row that another one holds."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(lines_of(3000)))
    assert "18,000 requests added" in run(path, tmp_path / "s")[0]
    sizes = [journal.stat().st_size for journal in (tmp_path / "s").iterdir()]
    assert len(sizes) > 1
    assert max(sizes) <= JOURNAL_BYTES
    assert len({row[:2] for row in stored(tmp_path / "s")}) == 18_000


def test_a_span_too_long_for_a_line(tmp_path: Path) -> None:
    """DuckDB would fail for the whole file, so a too long span's texts are cut; it and its neighbours stay."""
    long = json.loads(json_line(some()))
    text = {"key": "gen_ai.input.messages", "value": {"stringValue": "x" * 16_000_000}}
    long["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].append(text)
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps(long))
    assert "6 requests added" in run(path, tmp_path / "s")[0]
    with span_folder.connect(tmp_path / "s") as connection:
        found = connection.execute("SELECT max(length(attributes['gen_ai.input.messages'])), count(*) FROM spans")
        assert found.fetchone() == (4096, 6)


def test_columns_are_the_proxys() -> None:
    """Names, columns and types of the attributes are the proxy's, and its texts too."""
    theirs = [(one.name, one.column, one.type) for one in attributes.ATTRIBUTES if one.column is not None]
    assert list(ATTRIBUTE_COLUMNS) == theirs
    for value in ("a", True, 7, 0.1, 1.0, float("nan"), ["a", 1], {"k": [1.5]}):
        assert attribute_text(value) == span.attribute_text(value)


def lines_of(count: int) -> Iterator[bytes]:
    """So many lines of six spans, each line with ids of its own."""
    line = json_line(some())
    for number in range(count):
        yield line.replace(b'"traceId":"0af76519', b'"traceId":"%08x' % number) + b"\n"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file nine times as large takes little more memory: neither its content nor its rows are held."""
    peaks_mb = []
    for count in (500, 4500):
        path = tmp_path / f"{count}.jsonl"
        with path.open("wb") as file:
            file.writelines(lines_of(count))
        code = (
            "import resource, sys, dyno\n"
            f"code = dyno.main(['import', {str(path)!r}, '--spans', {str(tmp_path / f's{count}')!r}])\n"
            "print(code or 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
        exit_code, peak_kb = done.stdout.splitlines()[-1].split()
        assert exit_code == "0"
        peaks_mb.append(int(peak_kb) / 1024)
    assert path.stat().st_size > 70e6
    assert peaks_mb[1] - peaks_mb[0] < 60
