"""A folder's year: copies, broken files, other versions, retention, many writers. Each row counts, once."""

import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

import dyno_analysis
from dyno_analysis.compaction.compaction import STALE_S
from dyno_analysis.compaction.parquet import empty_expired
from dyno_analysis.compaction.retention import Keep
from dyno_analysis.compaction.retire import GRACE_S, REMOVED_S
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import SEEDS
from dyno_analysis.spans.footer import HELD_KEY, VERSION_KEY, read_footer
from dyno_analysis.spans.selection import Selection
from rigs.compacted import as_parquet, compacted, pasted, rested
from rigs.dyno_command import dyno
from rigs.imports import SAMPLES
from rigs.stored_spans import STARTED_AT_US, line, span

WRITER = "elsewhere_1_20261124T215900000000Z"
DAY_US = 86_400_000_000


def journal(folder: Path, numbers: Iterable[int], writer: str = WRITER, **columns: Any) -> Path:
    """A journal of that writer whose rows have these numbers. Row 1 started at STARTED_AT_US, each a second later."""
    wanted = list(numbers)
    path = folder / f"{writer}-{wanted[0]:012d}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows = (
        span(**{"seq": n, "span_id": f"{n:016x}", "started_at_us": STARTED_AT_US + n * 1_000_000, **columns})
        for n in wanted
    )
    path.write_bytes(b"".join(map(line, rows)))
    return rested(path)


def found(folder: Path) -> list[int]:
    """The rows' span ids as numbers, by Dyno's view; the pasted one has to find the same."""
    query = "SELECT ('0x' || span_id)::BIGINT FROM spans ORDER BY ALL"
    with span_folder.connect(folder) as connection:
        ours = [number for (number,) in connection.execute(query).fetchall()]
    with pasted(folder) as connection:
        assert [number for (number,) in connection.execute(query).fetchall()] == ours
    return ours


def ours(folder: Path) -> list[int]:
    """As `found`, where the folder has a file that no plain DuckDB can read."""
    with span_folder.connect(folder) as connection:
        query = "SELECT ('0x' || span_id)::BIGINT FROM spans ORDER BY ALL"
        return [number for (number,) in connection.execute(query).fetchall()]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def zero_end(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_later_format(path: Path) -> None:
    """As a later Dyno may have written it."""
    with duckdb.connect() as connection:
        rows = f"FROM read_parquet('{path}')"
        connection.execute(f"COPY ({rows}) TO '{path}_' (FORMAT parquet, KV_METADATA {{{VERSION_KEY}: '99'}})")
    Path(f"{path}_").rename(path)


def zero_middle(path: Path) -> None:
    """As an interrupted copy in place, or a failing disk: the footer is sound, the rows aren't."""
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes(len(content) // 4) + content[8 + len(content) // 4 :])


@pytest.mark.parametrize("harm", [cut_off, zero_end, empty, of_later_format])
def test_an_unreadable_file_hides_nothing(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Its journal counts as if it weren't there, is never emptied for it, and is converted anew."""
    path = journal(tmp_path, range(1, 103))
    content = path.read_bytes()
    parquet = as_parquet(path)
    harm(parquet)
    broken = parquet.read_bytes()
    path.write_bytes(content)
    os.utime(path, (0, 0))
    assert ours(tmp_path) == list(range(1, 103))
    assert any(parquet.name in problem for problem in compacted(tmp_path, REMOVED_S * 3))
    assert ours(tmp_path) == list(range(1, 103))
    assert parquet.read_bytes() in (broken, *(other.read_bytes() for other in tmp_path.glob("*.parquet")))


@pytest.mark.parametrize("harm", [cut_off, zero_end, empty])
def test_a_broken_merge_hides_no_small_file(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Of one writer and of several: the small files count, and stay."""
    small = [as_parquet(journal(tmp_path, (n, n + 1), f"w{n % 3}")) for n in range(1, 80, 2)]
    assert compacted(tmp_path) == []
    made = [path for path in tmp_path.glob("2*.parquet") if path not in small]
    assert made
    for path in made:
        harm(path)
    assert ours(tmp_path) == list(range(1, 81))
    assert compacted(tmp_path, GRACE_S + 60) != []
    assert ours(tmp_path) == list(range(1, 81))


def test_nothing_is_emptied_for_a_file_that_cannot_be_read_whole(tmp_path: Path) -> None:
    """A footer that is sound isn't enough. A query names the file and leaves it out, so the journal counts again."""
    path = journal(tmp_path, range(1, 103))
    content = path.read_bytes()
    parquet = as_parquet(path)
    zero_middle(parquet)
    path.write_bytes(content)
    for after_s in (GRACE_S + 60, REMOVED_S * 2):
        assert any(parquet.name in problem for problem in compacted(tmp_path, after_s))
        assert path.read_bytes() == content
    done = dyno("sql", "SELECT sum(latency_s) FROM spans", "--spans", tmp_path)
    assert (done.returncode, parquet.name in done.stderr, done.stderr.count("\n")) == (0, True, 1)
    assert done.stdout.split()[1] == "102.0"
    parquet.unlink()
    assert found(tmp_path) == list(range(1, 103))


def test_nothing_is_emptied_for_rows_that_the_other_file_lacks(tmp_path: Path) -> None:
    """A file that claims more than it has covers by its name, and not at last: what it lacks is said, and stays."""
    path = journal(tmp_path, range(1, 103))
    content = path.read_bytes()
    parquet = as_parquet(path)
    with duckdb.connect() as connection:
        metadata = f"KV_METADATA {{{VERSION_KEY}: '2', {HELD_KEY}: '{WRITER}:1-102'}}"
        connection.execute(
            f"COPY (FROM read_parquet('{parquet}') WHERE seq < 61) TO '{parquet}_' (FORMAT parquet, {metadata})"
        )
    Path(f"{parquet}_").rename(parquet)
    path.write_bytes(content)
    assert [problem for problem in compacted(tmp_path, REMOVED_S * 2) if "42 of its rows" in problem]
    assert path.read_bytes() == content


def test_a_copy_that_was_compacted_and_then_brought_up_to_date(tmp_path: Path) -> None:
    """Night 1 copies a journal of 60 rows and compacts the copy; night 2 brings it with 102, and its successor."""
    copy = tmp_path / "copy"
    as_parquet(journal(copy, range(1, 61)))
    assert found(copy) == list(range(1, 61))
    for rows in (range(1, 103), range(103, 150)):
        journal(copy, rows)
    for after_s in (0, 0, GRACE_S + 60, REMOVED_S + GRACE_S, 3 * REMOVED_S):
        assert found(copy) == list(range(1, 150))
        assert compacted(copy, after_s) == []
    assert found(copy) == list(range(1, 150))
    assert not list(copy.glob(f"{WRITER}-*.jsonl"))


def test_a_copy_of_a_part_claims_no_more(tmp_path: Path) -> None:
    """Where the middle's journal comes last, after its neighbours were joined, its rows count all the same."""
    as_parquet(journal(tmp_path, range(1, 61)))
    as_parquet(journal(tmp_path, range(103, 150)))
    assert compacted(tmp_path) == []
    assert len(span_folder.span_files(tmp_path)) == 1
    assert found(tmp_path) == [*range(1, 61), *range(103, 150)]
    journal(tmp_path, range(40, 110))
    for after_s in (0, GRACE_S + 60, 3 * REMOVED_S):
        assert found(tmp_path) == list(range(1, 150))
        assert compacted(tmp_path, after_s) == []


def test_copies_of_different_nights_may_overlap(tmp_path: Path) -> None:
    """Files that hold some of the same rows, in whatever pieces they were joined, give each row once."""
    nights = [tmp_path / str(night) for night in range(3)]
    for night, folder in enumerate(nights):
        for writer in ("w1", "w2"):
            for first in range(1 + night * 10, 40 + night * 10, 7):
                journal(
                    folder,
                    range(first + (500 if writer == "w2" else 0), first + 7 + (500 if writer == "w2" else 0)),
                    writer,
                )
        assert compacted(folder, STALE_S + 60) == []
    one = tmp_path / "one"
    one.mkdir()
    for folder in nights:
        for path in folder.glob("*w[12]-*"):
            shutil.copy(path, one / path.name)
    wanted = sorted({n for folder in nights for n in found(folder)})
    for after_s in (0, GRACE_S + 60, 3 * REMOVED_S, 5 * REMOVED_S):
        assert found(one) == wanted
        assert compacted(one, after_s) == []
    assert found(one) == wanted


def first_format(folder: Path, numbers: Iterable[int], name: str) -> Path:
    """A Parquet file as Dyno wrote it before format 2: its name says all, it has no writers, and its version is 1."""
    made = as_parquet(journal(folder, numbers))
    with duckdb.connect() as connection:
        rows = f"FROM read_parquet('{made}') SELECT * EXCLUDE (writer)"
        connection.execute(f"COPY ({rows}) TO '{folder / name}' (FORMAT parquet, KV_METADATA {{{VERSION_KEY}: '1'}})")
    made.unlink()
    return folder / name


def test_an_older_dyno_joined_files_across_a_gap(tmp_path: Path) -> None:
    """Its file's name claims the rows between, too. They count where they are, in a journal or in a file."""
    first_format(tmp_path, [*range(1, 61), *range(103, 150)], f"{WRITER}-{1:012d}-{149:012d}.parquet")
    journal(tmp_path, range(61, 80))
    as_parquet(journal(tmp_path, range(80, 103)))
    for after_s in (0, GRACE_S + 60, 3 * REMOVED_S, 5 * REMOVED_S):
        assert ours(tmp_path) == list(range(1, 150))
        assert compacted(tmp_path, after_s) == []
    assert found(tmp_path) == list(range(1, 150))


def test_an_older_dyno_converted_the_same_journal(tmp_path: Path) -> None:
    """Both files count for one; so do an older and a newer joined file."""
    as_parquet(journal(tmp_path, range(1, 51)))
    journal(tmp_path, range(1, 51))
    first_format(tmp_path / "old", range(1, 51), f"{WRITER}-{1:012d}-{50:012d}.parquet").rename(
        tmp_path / f"{WRITER}-{1:012d}-{50:012d}.parquet"
    )
    for after_s in (0, GRACE_S + 60, 3 * REMOVED_S):
        assert found(tmp_path) == list(range(1, 51))
        assert compacted(tmp_path, after_s) == []


@pytest.mark.parametrize("columns", [{"v": 99}, {"a_later_column": 7}])
def test_a_later_dynos_journal_is_left_alone(tmp_path: Path, columns: dict[str, Any]) -> None:
    """It isn't converted, as a column would be lost; and where another file has its rows, it isn't emptied either."""
    path = journal(tmp_path, range(1, 11))
    journal(tmp_path / "other", range(1, 11))
    parquet = as_parquet(path)
    later = journal(tmp_path, range(1, 11), WRITER, **columns)
    alone = journal(tmp_path, range(1, 6), "import_00", **columns)
    kept = {each: (each.read_bytes(), each.stat().st_mode) for each in (later, alone)}
    for after_s in (GRACE_S + 60, REMOVED_S * 3):
        problems = compacted(tmp_path, after_s)
        assert len([each for each in problems if "later Dyno" in each]) >= 2
        assert {each: (each.read_bytes(), each.stat().st_mode) for each in kept} == kept
    assert parquet.exists()


def test_a_reader_with_an_old_list_gets_an_error_and_no_zero(tmp_path: Path) -> None:
    """A notebook that is open since before a compaction: its files are there at first; once emptied, they say so."""
    journal(tmp_path, range(1, 103))
    as_parquet(journal(tmp_path, range(201, 203), "import_00"))
    as_parquet(journal(tmp_path, range(203, 205), "import_00"))
    with dyno_analysis.connect(tmp_path) as notebook:
        for _ in range(2):
            assert notebook.execute("SELECT count(*) FROM spans").fetchall() == [(106,)]
            assert compacted(tmp_path) == []
        for after_s in (GRACE_S + 60, 3 * REMOVED_S):
            assert compacted(tmp_path, after_s) == []
            for query in ("SELECT count(*) FROM spans", "SELECT max(latency_s) FROM spans", "FROM runs"):
                with pytest.raises(duckdb.Error):
                    notebook.execute(query).fetchall()
    with dyno_analysis.connect(tmp_path) as notebook:
        assert notebook.execute("SELECT count(*) FROM spans").fetchall() == [(106,)]


@pytest.mark.parametrize("emptied", ["journal", "parquet"])
def test_the_error_says_what_to_do(tmp_path: Path, emptied: str) -> None:
    """It says that the folder has to be listed again."""
    journal(tmp_path, range(1, 3))
    kept = span_folder.sources(tmp_path)
    if emptied == "parquet":
        assert compacted(tmp_path) == []
        (kept,) = [span_folder.sources(tmp_path)]
        journal(tmp_path, range(3, 5))
    with span_folder.connect(tmp_path, kept) as connection:
        assert compacted(tmp_path) == []
        assert compacted(tmp_path, GRACE_S + 60) == []
        with pytest.raises(duckdb.Error, match="list_the_folder_again"):
            connection.execute("SELECT max(latency_s) FROM spans").fetchall()


def test_many_writers_files_become_few(tmp_path: Path) -> None:
    """Rows, and the rows by any choice of time, endpoint and run, are the same before and after."""
    for number in range(60):
        made = journal(tmp_path, range(10 * number + 1, 10 * number + 11), f"import_{number:02x}", run_id=f"r{number}")
        if number % 4:
            as_parquet(made)
    wanted = list(range(1, 601))
    assert found(tmp_path) == wanted
    assert compacted(tmp_path) == []
    (only,) = span_folder.sources(tmp_path)
    assert only.counted.file.is_merged
    assert len(read_footer(only.path).held) == 60
    for after_s in (0, GRACE_S + 60, 3 * REMOVED_S):
        assert found(tmp_path) == wanted
        assert compacted(tmp_path, after_s) == []
    assert [path.name for path in tmp_path.iterdir() if path.name not in SEEDS] == [only.path.name]
    assert dyno(
        "sql", "SELECT count(*) FROM spans", "--spans", tmp_path, "--run", "r7", "--format", "csv"
    ).stdout.split() == [
        "count_star()",
        "10",
    ]


@pytest.mark.parametrize("chosen", ["since", "until", "run", "endpoint"])
def test_only_the_files_that_match_are_opened(tmp_path: Path, chosen: str) -> None:
    """The others may be unreadable: nobody sees that, as nobody looks."""
    for number in range(6):
        us = STARTED_AT_US + number * DAY_US
        columns = {"started_at_us": us, "run_id": f"r{number}", "endpoint": f"e{number}"}
        as_parquet(journal(tmp_path, [number + 1], f"import_{number:02x}", **columns))
    flags = {
        "since": ("--since", datetime.fromtimestamp((STARTED_AT_US + 5 * DAY_US) / 1e6 - 1, UTC).isoformat()),
        "until": ("--until", datetime.fromtimestamp(STARTED_AT_US / 1e6 + 1, UTC).isoformat()),
        "run": ("--run", "r3"),
        "endpoint": ("--endpoint", "e4"),
    }[chosen]
    wanted = {"since": "e5", "until": "e0", "run": "e3", "endpoint": "e4"}[chosen]
    for source in span_folder.sources(tmp_path):
        if f"import_0{wanted[1]}" not in source.path.name:
            source.path.write_bytes(b"nobody looks")
    done = dyno("sql", "SELECT DISTINCT endpoint FROM spans", "--spans", tmp_path, *flags, "--format", "csv")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["endpoint", wanted], "")


def test_what_is_kept_by_age_is_kept_by_row(tmp_path: Path) -> None:
    """A file that has old and new rows loses the old ones; a row from the future stays alone, and holds nothing up."""
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    rows = [span(seq=day + 1, span_id=f"{day + 1:016x}", started_at_us=now_us - day * DAY_US) for day in range(365)]
    rows.append(span(seq=366, span_id=f"{366:016x}", started_at_us=now_us + 3650 * DAY_US))
    path = tmp_path / "import_00-000000000001.jsonl"
    path.write_bytes(b"".join(map(line, rows)))
    shutil.copy(path, tmp_path / "copy")
    parquet = as_parquet(path)
    assert compacted(tmp_path, keep=Keep(age=timedelta(days=30))) == []
    assert found(tmp_path) == [*range(1, 31), 366]
    # The files that it was made of don't come back, also where they were copied here again.
    shutil.copy(tmp_path / "copy", path)
    (tmp_path / "copy").unlink()
    assert found(tmp_path) == [*range(1, 31), 366]
    assert compacted(tmp_path, GRACE_S + 60) == []
    assert compacted(tmp_path, after_s=40 * REMOVED_S, keep=Keep(age=timedelta(days=30))) == []
    assert found(tmp_path) == [366]
    assert parquet.exists()


def test_files_without_rows_go_at_last(tmp_path: Path) -> None:
    """Once nothing is there for which they count, and not before."""
    path = journal(tmp_path, range(1, 5))
    content = path.read_bytes()
    parquet = as_parquet(path)
    empty_expired(parquet, {WRITER: [(1, 4)]}, STARTED_AT_US + DAY_US)
    path.write_bytes(content)
    assert found(tmp_path) == []
    assert compacted(tmp_path, REMOVED_S + 60) == []
    assert not path.exists()
    assert compacted(tmp_path, 2 * REMOVED_S + 60) == []
    assert [each.name for each in tmp_path.iterdir() if each.name not in SEEDS] == []


def test_what_is_kept_by_size(tmp_path: Path) -> None:
    """The newest file stays, however large; of a large old one no more goes than must; joined files stay small."""
    big = as_parquet(journal(tmp_path, range(1, 4001), chunk_offsets_us=list(range(1, 400))))
    assert compacted(tmp_path, keep=Keep(size_bytes=big.stat().st_size - 1)) == []
    assert len(found(tmp_path)) == 4000
    as_parquet(journal(tmp_path, range(4001, 4003), "import_01"))
    assert compacted(tmp_path, keep=Keep(size_bytes=big.stat().st_size)) == []
    left = found(tmp_path)
    assert {4001, 4002} < set(left)
    assert 3000 < len(left) < 4002
    for number in range(60):
        as_parquet(journal(tmp_path, [5000 + number], f"import_1{number:02}"))
    whole_bytes = sum(path.stat().st_size for path in tmp_path.glob("*.parquet"))
    assert compacted(tmp_path, keep=Keep(size_bytes=whole_bytes)) == []
    sizes = [path.stat().st_size for path in span_folder.span_files(tmp_path)]
    assert sorted(sizes)[-2] <= whole_bytes / 10


def test_a_selection_of_what_is_not_there(tmp_path: Path) -> None:
    """Where no file can match, there is no row, and no complaint."""
    as_parquet(journal(tmp_path, range(1, 5), run_id="r1"))
    assert span_folder.sources(tmp_path, Selection(("r2",)).may_be_in) == []
    done = dyno("sql", "SELECT count(*) FROM spans", "--spans", tmp_path, "--run", "r1", "--format", "csv")
    assert done.stdout.split() == ["count_star()", "4"]


def test_an_import_of_what_will_be_deleted_says_so(tmp_path: Path) -> None:
    """Where the folder keeps spans for a time, or up to a size; not where it keeps all, or the import is young."""
    spans = tmp_path / "spans"
    spans.mkdir()
    sample = SAMPLES / "vllm_0.29_llm_request.json"
    for keep, said in ((None, False), ("30000d", False), ("10GB", True), ("1d", True)):
        shutil.rmtree(spans)
        spans.mkdir()
        if keep is not None:
            assert dyno("compact", "--spans", spans, "--keep", keep).returncode == 0
        done = dyno("import", sample, "--spans", spans, "--endpoint", "e")
        assert done.returncode == 0
        assert (f"keeps {'at most' if keep == '10GB' else 'only'} {keep}" in done.stderr) == said
