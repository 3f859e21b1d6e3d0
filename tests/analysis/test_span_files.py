"""Which files of a spans folder count, by their names alone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.compaction.retention import Keep, expired, parse_keep
from dyno_analysis.errors import InputError
from dyno_analysis.spans.file_names import SpanFile, finished, parse, process, sort_out, together
from dyno_proxy.telemetry.journal import writer_name

J1, J5, J9 = (SpanFile("w", first, None) for first in (1, 5, 9))


def parquet(first: int, last: int, writer: str = "w") -> SpanFile:
    return SpanFile(writer, first, last)


@pytest.mark.parametrize(
    ("files", "counting"),
    [
        ([J1], [J1]),
        ([J1, parquet(1, 4)], [parquet(1, 4)]),
        ([J1, J5, parquet(1, 4)], [parquet(1, 4), J5]),
        ([J1, parquet(1, 4), parquet(5, 8), parquet(1, 8)], [parquet(1, 8)]),
        ([J1, parquet(1, 4, "x")], [J1, parquet(1, 4, "x")]),
        ([parquet(1, 4), parquet(3, 8)], [parquet(1, 4), parquet(3, 8)]),
        ([J9, parquet(1, 8)], [parquet(1, 8), J9]),
    ],
)
def test_a_file_counts_unless_another_covers_it(files: list[SpanFile], counting: list[SpanFile]) -> None:
    """A name is parsed into writer and range; other names aren't span files."""
    others = ["notes.txt", "x.parquet", "seed-000000000000.jsonl", ".w-000000000001.jsonl"]
    covered = sorted(set(files) - set(counting), key=lambda file: (file.first, -(file.last or 0)))
    assert sort_out([*(file.name for file in files), *others]) == (counting, covered)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=8), st.data())
def test_conversions_and_merges_keep_each_row_once(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever was converted and merged, and whatever is left over: what counts are all rows, each once."""
    first = 1
    journals: list[tuple[SpanFile, int]] = []
    for size, _ in sizes:
        journals.append((SpanFile("w", first, None), first + size - 1))
        first += size
    ends = dict(journals)
    names = {file.name for file in ends}
    for journal in data.draw(st.lists(st.sampled_from(list(ends)), unique=True)):
        names.add(parquet(journal.first, ends[journal]).name)
    for _ in range(data.draw(st.integers(0, 3))):
        counting, _ = sort_out(names)
        rows = [(f, (ends[f] if f.last is None else f.last) - f.first + 1) for f in counting]
        for group in together(rows, data.draw(st.integers(1, 60))):
            names.add(parquet(group[0].first, max(f.last or 0 for f in group)).name)
    counting, covered = sort_out(names)
    held = [n for f in counting for n in range(f.first, (ends[f] if f.last is None else f.last) + 1)]
    assert sorted(held) == list(range(1, first))
    assert {file.name for file in (*counting, *covered)} == names


def test_neighbours_alone_become_one() -> None:
    """Files aren't joined across a journal, across writers, or beyond the limit."""
    a, b, c, d = parquet(1, 2), parquet(3, 4), parquet(7, 8), parquet(9, 9)
    other = parquet(1, 3, "x")
    counted = [(a, 2), (b, 2), (J5, 2), (c, 2), (d, 1), (other, 3)]
    assert together(counted, 100) == [[a, b], [c, d]]
    assert together(counted, 3) == [[c, d]]
    assert together(counted, 2) == []


def test_a_writer_is_a_process() -> None:
    """The name that the proxy makes gives host, process and start; an import has no process, and is finished."""
    at = datetime(2026, 11, 24, 21, 59, 1, 5, UTC)
    found = process(writer_name("node_1.lab", 42, at))
    assert found is not None
    assert (found.host, found.pid, found.started_at) == ("node_1_lab", 42, at.replace(microsecond=0))
    assert process("import_00ff") is None
    imported = SpanFile("import_00ff", 1, None)
    assert finished(imported, [imported])
    assert finished(J1, [J1, J5])
    assert not finished(J5, [J1, J5])
    assert parse(imported.name) == imported


def test_what_expires() -> None:
    """The oldest go, until age or size is kept."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    files = [("b", now - timedelta(days=2), 50), ("a", now - timedelta(days=9), 70), ("c", now, 100)]
    assert expired(files, parse_keep("3d"), now) == ["a"]
    assert expired(files, parse_keep("48h"), now) == ["a"]
    assert expired(files, Keep(size_bytes=150), now) == ["a"]
    assert expired(files, Keep(size_bytes=149), now) == ["a", "b"]
    assert expired(files, parse_keep("1MB"), now) == []
    for wrong in ("", "0d", "30", "-1d", "3 d", "10gb"):
        with pytest.raises(InputError, match="--keep"):
            parse_keep(wrong)
