"""The view `spans`: which files and lines it reads."""

from importlib import resources
from pathlib import Path

import duckdb
import pytest

from dyno_analysis.compaction.convert import convert
from dyno_analysis.errors import InputError
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.counted import Counted, Source
from dyno_analysis.spans.file_names import SEEDS, SpanFile, parse
from dyno_analysis.spans.selection import Selection, select
from dyno_analysis.spans.sql_text import sql_text
from rigs.stored_spans import line, span, write

from .test_load import one


def test_torn_tail_loses_the_torn_line_alone(tmp_path: Path) -> None:
    """A journal cut at any byte gives the whole lines before the cut."""
    row = {"v": 1, "seq": 1, "trace_id": "0" * 32, "span_id": "1", "model": "öss 💡", "attributes": {"a": "b"}}
    first = line(row)
    whole = first + line(row | {"seq": 2, "span_id": "2" * 16})
    for cut in range(len(whole) + 1):
        (tmp_path / f"cut{cut}-000000000001.jsonl").write_bytes(whole[:cut])
    with span_folder.connect(tmp_path) as connection:
        found = dict(connection.execute("SELECT writer, count(*) FROM spans GROUP BY writer").fetchall())
    # The last line's newline adds nothing.
    wanted = {f"cut{cut}": (cut >= len(first) - 1) + (cut >= len(whole) - 1) for cut in range(len(whole) + 1)}
    assert found == {name: rows for name, rows in wanted.items() if rows}


def test_reads_only_span_files(tmp_path: Path) -> None:
    """Other files in the folder, and a run's own, are left alone."""
    write(tmp_path, [span()])
    for name in ("notes.jsonl", "x-1.jsonl", ".node-000000000001.jsonl.tmp", "node 1-000000000001.jsonl"):
        (tmp_path / name).write_bytes(line(span()))
    (tmp_path / "runs").mkdir()
    assert one(tmp_path, "endpoint") == "metis"


@pytest.mark.parametrize("name", ["with [brackets]", "star*", "what?", "it's", "ünï cödé"])
def test_any_folder_name(tmp_path: Path, name: str) -> None:
    """A folder's name is taken literally, even if DuckDB would read it as a pattern, also after the lock."""
    path = write(tmp_path / name, [span()])
    with span_folder.connect(tmp_path / name) as connection:
        span_folder.lock(connection, [path])
        assert connection.execute("SELECT count(*) FROM spans").fetchall() == [(1,)]


def test_pasteable_by_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """spans.sql as it stands makes the view in a plain DuckDB whose working folder holds `spans/`, of whatever kind."""
    spans = tmp_path / "spans"
    journal = write(spans, [span(), span(endpoint="sophia")])
    monkeypatch.chdir(tmp_path)
    for seed in SEEDS:
        content = (resources.files("dyno_proxy") / f"seed{Path(seed).suffix}").read_bytes()
        (spans / seed).write_bytes(content)

    def endpoints() -> list[tuple[str]]:
        with duckdb.connect() as connection:
            connection.execute(sql_text("spans"))
            return connection.execute("SELECT endpoint FROM spans ORDER BY ALL").fetchall()

    assert endpoints() == [("metis",), ("sophia",)]
    converted = parse(journal.name)
    assert converted is not None
    convert(spans, converted)
    assert endpoints() == [("metis",), ("sophia",)]  # the journal is still there, and counts no longer
    journal.unlink()
    assert endpoints() == [("metis",), ("sophia",)]
    (spans / "w-000000000001.jsonl").write_bytes(line(span(endpoint="cerebras")))
    assert endpoints() == [("cerebras",), ("metis",), ("sophia",)]
    assert sql_text("spans").count("'spans/") == 4


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder, and a file in its place, are refused by name."""
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(InputError, match=name):
            span_folder.connect(tmp_path / name)


def test_unreadable_file_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A span file that can't be opened is named in a line, and the others are read. If one disappears later, that is
    an error."""
    broken = tmp_path / "node-000000000001.jsonl"
    broken.symlink_to(tmp_path / "gone")
    write(tmp_path, [span()])
    assert one(tmp_path, "endpoint") == "metis"
    (said,) = capfd.readouterr().err.splitlines()
    assert "node-000000000001.jsonl" in said
    with (
        pytest.raises(InputError, match=r"node-000000000001\.jsonl"),
        span_folder.connect(tmp_path, [Source(Counted(broken, SpanFile("node", 1, None)))]) as connection,
    ):
        span_folder.execute(connection, "SELECT count(*) FROM spans")


def test_selection(tmp_path: Path) -> None:
    """A selection narrows `spans` by run, endpoint and time; without a run it drops requests of no operation."""
    write(
        tmp_path,
        [
            span(span_id="a" * 16, run_id="r1", started_at_us=10, operation=None),
            span(span_id="b" * 16, run_id="r2", started_at_us=20, endpoint="sophia"),
            span(span_id="c" * 16, started_at_us=30),
            span(span_id="d" * 16, started_at_us=40, operation=None),
        ],
    )
    for selection, expected in (
        (Selection(), "bc"),
        (Selection(runs=["r1"]), "a"),
        (Selection(runs=["r1", "r2"]), "ab"),
        (Selection(endpoints=["sophia"]), "b"),
        (Selection(since_us=20), "bc"),
        (Selection(until_us=30), "b"),
        (Selection(runs=["it's"]), ""),
    ):
        with span_folder.connect(tmp_path) as connection:
            select(connection, selection)
            rows = connection.execute("SELECT span_id[1] FROM spans ORDER BY ALL").fetchall()
        assert "".join(row[0] for row in rows) == expected
