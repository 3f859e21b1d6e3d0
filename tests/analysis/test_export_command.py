"""`dyno export`: lines that another folder takes, and those that the proxy's exporter asks for."""

import json
from pathlib import Path

import pytest

from rigs.dyno_command import dyno, refusal
from rigs.imports import rows
from rigs.journal_rows import parsed
from rigs.stored_spans import STARTED_AT_US, span, streamed
from rigs.stored_spans import write as write_journal

ONE = "host_1_20261124T215900000000Z"
OTHER = "host_2_20261124T215900000000Z"
COLUMNS = "span_id, started_at::VARCHAR, endpoint, latency_s, ttft_s, chunk_offsets_us, run_id, attributes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two writers: the first one's rows are in Parquet and in a journal, the second one's in a journal."""
    spans = tmp_path / "spans"
    spans.mkdir()
    write_journal(spans, [streamed([100, 200], seq=seq, run_id="r1", attributes={"a": "b"}) for seq in (1, 2, 3)], ONE)
    write_journal(spans, [span(seq=seq, endpoint="sophia") for seq in (1, 2)], OTHER)
    assert dyno("compact", "--spans", spans).returncode == 0
    later = write_journal(tmp_path / "later", [span(seq=seq, run_id="r2") for seq in (4, 6)], ONE)
    later.rename(spans / f"{ONE}-000000000004.jsonl")
    return spans


def lines(folder: Path, *flags: str | Path) -> list[str]:
    done = dyno("export", "--spans", folder, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_another_folder_takes_the_lines(folder: Path, tmp_path: Path) -> None:
    """Each line has a checksum, and a number of its own. In a folder it makes the same rows, also once compacted."""
    exported = lines(folder)
    assert [parsed(line.encode())["seq"] for line in exported] == list(range(1, 8))
    other = tmp_path / "other"
    other.mkdir()
    (other / "from_me-000000000001.jsonl").write_text("\n".join([*exported, ""]), encoding="utf-8")
    assert rows(other, COLUMNS) == rows(folder, COLUMNS)
    assert dyno("compact", "--spans", other).returncode == 0
    assert rows(other, COLUMNS) == rows(folder, COLUMNS)


def test_what_is_chosen(folder: Path) -> None:
    """--run names a run as in `dyno report`; --endpoint, --since and --until choose as in `dyno sql`."""
    assert len(lines(folder, "--run", "r1")) == 3
    assert len(lines(folder, "--run", "latest")) == 2
    assert len(lines(folder, "--endpoint", "sophia")) == 2
    assert lines(folder, "--since", "2030-01-01") == []
    assert len(lines(folder, "--until", "2030-01-01")) == 7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--run", "r3"), "no run 'r3'"),
        (("--endpoint", "nobody"), "nobody"),
        (("--again",), "--again needs --otlp"),
        (("--since", "yesterday"), "--since 'yesterday' must be a time"),
        (("--otlp",), "no OTLP endpoint is set; set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318"),
    ],
)
def test_wrong_use(folder: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], message: str) -> None:
    """One line on stderr, and exit code 2."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert message in refusal("export", "--spans", folder, *flags)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The line names it."""
    assert "doesn't exist" in refusal("export", "--spans", tmp_path / "nowhere")


def after(folder: Path, writers: dict[str, int], from_us: int = 0) -> list[tuple[str, int]]:
    """Writer and number of each row beyond."""
    cursors = folder.parent / "after.json"
    cursors.write_text(json.dumps({"from_us": from_us, "writers": writers}), encoding="utf-8")
    found = [line.partition(" ") for line in lines(folder, "--after", cursors)]
    return [(writer, parsed(line.encode())["seq"]) for writer, _, line in found]


def test_rows_beyond_cursors(folder: Path) -> None:
    """By writer and number, from Parquet and journals, each once; of unknown writers from a time on."""
    of_one = [(ONE, seq) for seq in (1, 2, 3, 4, 6)]
    assert after(folder, {}) == [*of_one, (OTHER, 1), (OTHER, 2)]
    assert after(folder, {ONE: 2, OTHER: 2}) == of_one[2:]
    assert after(folder, {ONE: 0}, from_us=STARTED_AT_US + 10**12) == of_one
    assert after(folder, {}, from_us=STARTED_AT_US + 10**12) == []


def test_imported_rows_are_not_asked_for(folder: Path) -> None:
    """They are somebody else's."""
    write_journal(folder, [span(seq=1, imported_from="x.json")], "import_0a1b")
    assert after(folder, {ONE: 6}) == [(OTHER, 1), (OTHER, 2)]
