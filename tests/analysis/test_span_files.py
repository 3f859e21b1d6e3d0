"""Which files of a spans folder count, and what their names say. Without any file."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.compaction.plan import Candidate, Limits, groups, limits
from dyno_analysis.compaction.retention import Keep, parse_keep, too_many
from dyno_analysis.errors import InputError
from dyno_analysis.spans import held_rows
from dyno_analysis.spans.file_names import (
    SpanFile,
    contents,
    endpoint_mark,
    is_import,
    merged,
    parse,
    process,
    run_mark,
)
from dyno_analysis.spans.held_rows import Held, common, one_range, together, what_counts, without
from dyno_analysis.spans.selection import Selection
from dyno_proxy.telemetry.journal import writer_name

J1, J5, J9 = (SpanFile("w", first, None) for first in (1, 5, 9))
HOUR_US = 3_600_000_000


def parquet(first: int, last: int, writer: str = "w") -> SpanFile:
    return SpanFile(writer, first, last)


def of_names(*files: SpanFile, journal_rows: int = 4) -> dict[SpanFile, Held]:
    """What files hold whose names say all; each journal has so many rows."""
    return {
        file: one_range(file.writer, file.first, file.first + journal_rows - 1 if file.last is None else file.last)
        for file in files
    }


@pytest.mark.parametrize(
    ("files", "counting"),
    [
        ([J1], {J1: {}}),
        ([J1, parquet(1, 4)], {parquet(1, 4): {}}),
        ([J1, J5, parquet(1, 4)], {parquet(1, 4): {}, J5: {}}),
        ([J1, parquet(1, 4), parquet(5, 8), parquet(1, 8)], {parquet(1, 8): {}}),
        ([J1, parquet(1, 4, "x")], {parquet(1, 4, "x"): {}, J1: {}}),
        ([J9, parquet(1, 8)], {parquet(1, 8): {}, J9: {}}),
        # A journal that went on after its copy became Parquet counts for the rest alone, whatever the rest's place is.
        ([J1, parquet(1, 2)], {parquet(1, 2): {}, J1: {"w": [(1, 2)]}}),
        ([J1, parquet(2, 3)], {parquet(2, 3): {}, J1: {"w": [(2, 3)]}}),
        ([J1, parquet(1, 1), parquet(3, 3)], {parquet(1, 1): {}, parquet(3, 3): {}, J1: {"w": [(1, 1), (3, 3)]}}),
        # Two files that overlap share no row.
        ([parquet(1, 4), parquet(3, 8)], {parquet(1, 4): {"w": [(3, 4)]}, parquet(3, 8): {}}),
    ],
)
def test_a_row_counts_in_one_file(files: list[SpanFile], counting: dict[SpanFile, Held]) -> None:
    """The largest Parquet file counts for a row, and a journal for what is in none; the order doesn't matter."""
    for order in itertools.islice(itertools.permutations(files), 24):
        assert what_counts(of_names(*order)) == counting


writers = st.sampled_from(["v", "w", "x"])
pieces = st.dictionaries(writers, st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=4))
anything = pieces.map(
    lambda found: {w: held_rows.joined((first, first + more) for first, more in ranges) for w, ranges in found.items()}
)


def numbers(held: Held) -> set[tuple[str, int]]:
    return {(writer, n) for writer, ranges in held.items() for low, high in ranges for n in range(low, high + 1)}


@given(anything, anything)
def test_rows_are_sets(one: Held, other: Held) -> None:
    """Ranges behave as the sets of numbers that they stand for, and a file lists them so that they are read back."""
    assert numbers(together([one, other])) == numbers(one) | numbers(other)
    assert numbers(common(one, other)) == numbers(one) & numbers(other)
    assert numbers(without(one, other)) == numbers(one) - numbers(other)
    assert held_rows.count(one) == len(numbers(one))
    assert held_rows.from_text(held_rows.as_text(one)) == dict(one)


@given(st.lists(anything, min_size=1, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_each_row_counts_once_whatever_files_there_are(held: list[Held], are_journals: list[bool]) -> None:
    """Copies, merges across writers and conversions may overlap in any way: no row is missing, none is there twice."""
    files = {
        SpanFile(f"f{index}", 1, None if are_journals[index] else 1): rows for index, rows in enumerate(held) if rows
    }
    counting = what_counts(files)
    found = [row for file, elsewhere in counting.items() for row in numbers(without(files[file], elsewhere))]
    assert len(found) == len(set(found))
    assert set(found) == set().union(*map(numbers, files.values()))


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=8), st.data())
def test_conversions_and_merges_keep_each_row_once(sizes: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever was converted and merged, and whatever is left over: what counts are all rows, each once."""
    first = 1
    held: dict[SpanFile, Held] = {}
    for size, _ in sizes:
        held[SpanFile("w", first, None)] = one_range("w", first, first + size - 1)
        first += size
    for journal in data.draw(st.lists(st.sampled_from(list(held)), unique=True)):
        held[parquet(*held[journal]["w"][0])] = held[journal]
    for number in range(data.draw(st.integers(0, 3))):
        counting = [file for file in what_counts(held) if file.last is not None]
        candidates = [Candidate(file, held_rows.count(held[file]), 1, 0, 0) for file in counting]
        for group in groups(candidates, Limits(rows=data.draw(st.integers(1, 60))), few=data.draw(st.integers(0, 9))):
            rows = together(held[each.file] for each in group)
            held[merged(held_rows.as_text(rows), number, contents(0, 0, (), ()))] = rows
    found = [row for file, skip in what_counts(held).items() for row in numbers(without(held[file], skip))]
    assert sorted(found) == [("w", number) for number in range(1, first)]


def candidate(name: str, rows: int, start_s: float = 0, end_s: float | None = None, size_bytes: int = 1) -> Candidate:
    writer, _, first = name.partition("-")
    file = SpanFile(writer, int(first or 1), int(first or 1) + rows - 1)
    return Candidate(file, rows, size_bytes, start_s, start_s if end_s is None else end_s)


def joined(found: list[list[Candidate]]) -> list[list[str]]:
    return [[f"{each.file.writer}-{each.file.first}" for each in group] for group in found]


def test_one_writers_files_become_one_and_of_many_writers_when_they_are_many() -> None:
    """Within the limits of rows, bytes and time, in order of number or of time."""
    files = [candidate("a-1", 2), candidate("a-3", 2), candidate("b-1", 2, 5), candidate("a-7", 1, 9)]
    assert joined(groups(files, Limits())) == [["a-1", "a-3", "a-7"]]
    assert joined(groups(files, Limits(rows=4))) == [["a-1", "a-3"]]
    assert joined(groups(files, Limits(size_bytes=2))) == [["a-1", "a-3"]]
    assert joined(groups(files, Limits(span_s=5))) == [["a-1", "a-3"]]
    assert joined(groups(files, Limits(), few=1)) == [["a-1", "a-3", "b-1", "a-7"]]
    assert groups([candidate(f"w{n}", 1) for n in range(32)], Limits()) == []
    assert len(groups([candidate(f"w{n}", 1) for n in range(33)], Limits())) == 1
    assert len(groups([candidate(f"w{n}", 1, n) for n in range(90)], Limits(rows=40))) == 3


def test_a_large_file_is_not_written_again_for_a_small_one() -> None:
    """A file is joined only with others that have half of its rows; so a row is written again a few times in a year."""
    assert joined(groups([candidate("a-1", 100), candidate("a-101", 20)], Limits())) == []
    assert joined(groups([candidate("a-1", 100), candidate("a-101", 30), candidate("a-131", 20)], Limits())) == [
        ["a-1", "a-101", "a-131"]
    ]
    small = [candidate("a-1", 5), candidate("a-6", 5), candidate("a-11", 100), candidate("a-111", 5)]
    assert joined(groups(small, Limits())) == [["a-1", "a-6"]]
    # A year of one file an hour: how often each row is written, and how many files there are at last.
    files: list[Candidate] = []
    written = 0
    for hour in range(24 * 365):
        files.append(candidate(f"w-{100 * hour + 1}", 100, hour * 3600.0))
        for group in groups(files, Limits()):
            rows = sum(each.rows for each in group)
            written += rows
            files = [each for each in files if each not in group]
            files.append(candidate(f"w-{group[0].file.first}", rows, group[0].start_s, group[-1].end_s))
    assert written < 20 * 100 * 24 * 365
    assert len(files) < 20


def test_what_a_name_says() -> None:
    """Times, endpoints and runs in a file's name: what can't be in it isn't looked for there."""
    file = SpanFile("w", 1, 9, contents(10 * HOUR_US + 1, 12 * HOUR_US - 1, ["metis"], ["r1", "r2"]))
    assert file.name.startswith("19700101T100000Z_19700101T120000Z_")
    assert parse(file.name) == file
    assert Selection(since_us=12 * HOUR_US).may_be_in(file)  # whole seconds: it may, though it isn't
    for selection, may in (
        (Selection(), True),
        (Selection(since_us=12 * HOUR_US + 1), False),
        (Selection(until_us=10 * HOUR_US), False),
        (Selection(until_us=10 * HOUR_US + 1), True),
        (Selection(("r1",)), True),
        (Selection(("r3", "r2")), True),
        (Selection(endpoints=("metis",)), True),
        (Selection(endpoints=("sophia",)), False),
    ):
        assert selection.may_be_in(file) == may, selection
        assert selection.may_be_in(J1)
        assert selection.may_be_in(parquet(1, 2))
    found = [n for n in range(1000) if Selection((f"run {n}",)).may_be_in(file)]
    assert len(found) < 50  # a filter of 64 bits with three names


@given(st.lists(st.text(min_size=1), max_size=9), st.integers(-(10**17), 10**18), st.integers(0, 10**17))
def test_what_is_in_a_file_is_never_missed(names: list[str], start_us: int, more_us: int) -> None:
    """For any names and times, also before the year 1000 and after 9999."""
    said = contents(start_us, start_us + more_us, names, names)
    file = parse(SpanFile("a_1", 3, 4, said).name)
    assert file is not None
    assert file.contents == said
    for at_us in (start_us, start_us + more_us):
        assert Selection(since_us=at_us, until_us=at_us + 1).may_be_in(file)
    assert all(said.may_hold(endpoint_mark(name)) and said.may_hold(run_mark(name)) for name in names)


def test_names_that_are_none() -> None:
    """Temporary files, seeds, other Parquet files and names with impossible times aren't span files."""
    for name in (
        "notes.txt",
        "x.parquet",
        "seed-000000000000.jsonl",
        ".w-000000000001.jsonl",
        "20261301T000000Z_20261301T000000Z_0000000000000000_w-000000000001-000000000002.parquet",
        "20261101T000000Z_20261101T000000Z_0000000000000000_w-000000000001.jsonl",
    ):
        assert parse(name) is None, name


def test_a_writer_is_a_process() -> None:
    """The name that the proxy makes gives host, process and start; an import has no process, and is finished."""
    at = datetime(2026, 11, 24, 21, 59, 1, 5, UTC)
    found = process(writer_name("node_1.lab", 42, at))
    assert found is not None
    assert (found.host, found.pid, found.started_at) == ("node_1_lab", 42, at.replace(microsecond=0))
    assert process("import_00ff") is None
    assert is_import("import_00ff")
    assert not is_import("node_1_2_20261124T215901000005Z")


def test_what_is_too_much() -> None:
    """The oldest files go until the rest fits; of a large one only what must, and of the newest nothing."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    files = [("b", now - timedelta(days=2), 50), ("a", now - timedelta(days=9), 70), ("c", now, 100)]
    assert too_many(files, 220) == []
    assert too_many(files, 150) == [("a", 1.0)]
    assert too_many(files, 149) == [("a", 1.0), ("b", 1 / 50)]
    assert too_many(files, 185) == [("a", 0.5)]
    assert too_many(files, 1) == [("a", 1.0), ("b", 1.0)]
    assert too_many(files[2:], 1) == []
    assert too_many([("old", now - timedelta(days=1), 1_600), ("new", now, 10)], 1_000) == [("old", 610 / 1600)]
    assert limits(Keep(size_bytes=1000)).size_bytes == 100
    assert limits(parse_keep("30d")).span_s == 3 * 86_400
    for wrong in ("", "0d", "30", "-1d", "3 d", "10gb"):
        with pytest.raises(InputError, match="--keep"):
            parse_keep(wrong)
