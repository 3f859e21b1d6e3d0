"""The proxy writes span files and the analysis reads them, often on two machines; they share a format and no code.

If one side changed one of these names or limits, rows would be lost or kept for ever. A test here fails first.
"""

import re
import zlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import duckdb
import pytest

from dyno_analysis.compaction.compaction import STALE_S
from dyno_analysis.compaction.convert import convert, whole_row
from dyno_analysis.ingest import journal as imported
from dyno_analysis.ingest import staged
from dyno_analysis.spans import file_names, readable
from dyno_analysis.spans.footer import VERSION_KEY, Footer
from dyno_analysis.spans.listing import list_folder
from dyno_proxy.telemetry import compaction, journal, journal_file, place, span
from rigs.records import record

SQL = Path(readable.__file__).parents[1] / "sql"
STARTED = datetime(2026, 11, 23, 21, 59, 0, 123456, UTC)


def written(folder: Path, records: int, journal_bytes: int = journal.JOURNAL_BYTES) -> list[Path]:
    """The journals that the proxy's exporter leaves in the folder, the oldest first."""
    exporter = journal.JournalExporter(
        folder, written=lambda _: None, dropped=lambda *_: pytest.fail("dropped"), journal_bytes=journal_bytes
    )
    for _ in range(records):
        seq = exporter.next_seq()
        line = exporter.line(record(), seq)
        assert line is not None
        assert exporter.write(line, seq, 1)
    exporter.shutdown()
    return sorted(folder.glob("*.jsonl"))


def test_a_writer_rests_for_less_than_others_wait_for_it() -> None:
    """After STALE_S without a write, a journal counts as a dead writer's. A living writer begins another long before.

    The ten minutes between the two allow for clocks that differ and for a file server that shows a size late.
    """
    assert 0 < journal_file.RESTED_S <= STALE_S - 600


@pytest.mark.parametrize("host", ["node1", "node_1.lab", "a-b.ø.gov"])
def test_names_are_read_as_they_are_written(tmp_path: Path, host: str) -> None:
    """The analysis reads writer, process, start and first number from the name that the proxy gives a journal."""
    writer = journal.writer_name(host, 42, STARTED)
    process = file_names.process(writer)
    assert process is not None
    assert (process.host, process.pid) == (re.sub(r"[^A-Za-z0-9_]", "_", host), 42)
    assert process.started_at == STARTED.replace(microsecond=0)
    paths = written(tmp_path, 3, journal_bytes=1)
    files = [file_names.parse(path.name) for path in paths]
    assert [file.first for file in files if file is not None and file.last is None] == [1, 2, 3]
    assert [file.name for file in files if file is not None] == [path.name for path in paths]
    # The proxy itself looks for journals by name too, to see whether a conversion is worth its while.
    assert all(compaction._JOURNAL.fullmatch(path.name) for path in paths)
    assert not any(compaction._JOURNAL.fullmatch(path.name) for path in (Path("x-1.jsonl"), Path("x.parquet")))


def test_a_file_by_the_sql_that_a_person_pastes_has_the_same_name() -> None:
    """`spans.sql` and `collected_spans.sql` parse the names with the pattern of file_names.py."""
    pattern = re.sub(r"\?P<\w+>|\?:", "", file_names._NAME.pattern)
    for name in ("spans.sql", "collected_spans.sql"):
        found = re.findall(r"regexp_extract\(file, '(.+?)\$', \d\)", (SQL / name).read_text(encoding="utf-8"))
        assert len(found) == 3
        for each in found:
            for file in (
                "20261124T215900Z_20261124T215901Z_00000000000000ff_w_1-000000000001-000000000009.parquet",
                "20261124T215900Z_20261124T215901Z_00000000000000ff_merged_1f-000000000001-000000000009.parquet",
                "w_1-000000000001.jsonl",
                "w-000000000001-000000000009.parquet",
                "w-000000000001.parquet",
                "w-1.jsonl",
                "w-000000000001-000000000009.jsonl",
            ):
                assert bool(re.fullmatch(each, file)) == bool(re.fullmatch(pattern, file)), file


def test_a_converted_journal_has_the_name_that_the_proxy_leaves_alone(tmp_path: Path) -> None:
    """`dyno compact` makes WRITER-FIRST-LAST.parquet from a journal. It covers the journal and holds its rows."""
    (path,) = written(tmp_path, 3)
    file = file_names.parse(path.name)
    assert file is not None
    done = convert(tmp_path, file)
    assert done.path is not None
    assert (done.rows, done.torn, done.rejected) == (3, False, [])
    parquet = file_names.parse(done.path.name)
    assert parquet is not None
    assert (parquet.writer, parquet.first, parquet.last) == (file.writer, 1, 3)
    assert done.path.name.endswith(f"_{path.stem}-000000000003.parquet")
    assert [counted.path for counted in list_folder(tmp_path).counting] == [done.path]


def test_seeds_are_the_same_files(tmp_path: Path) -> None:
    """The seed files have the same name on both sides and no row. The analysis takes them for no writer's spans."""
    assert place.SEEDS == file_names.SEEDS
    journal.check_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file_names.SEEDS)
    assert [file_names.parse(name) for name in file_names.SEEDS] == [None, None]
    journal_seed, parquet_seed = (tmp_path / name for name in file_names.SEEDS)
    assert readable.journal_problem(journal_seed) is None
    assert isinstance(readable.footer_of(parquet_seed), Footer)


def test_a_lines_checksum_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Proxy, import and conversion agree on `,"crc32":N}`. A line with one changed byte isn't a row to any of them."""
    (path,) = written(tmp_path, 1)
    line = path.read_bytes()
    row = whole_row(line)
    assert row is not None
    body, _, checksum = line.rpartition(b',"crc32":')
    assert int(checksum.removesuffix(b"}\n")) == zlib.crc32(body)
    assert whole_row(line.replace(b'"v":2', b'"v":3')) is None
    assert whole_row(imported.journal_line({"seq": 1, "trace_id": "ab"})) == {"v": 2, "seq": 1, "trace_id": "ab"}
    assert journal.journal_line({"v": 2, "seq": 1}) == imported.journal_line({"seq": 1})


def test_the_formats_version_is_one_number(tmp_path: Path) -> None:
    """Lines, imported lines, Parquet files and their seed have one version number, and each file says it."""
    versions = {span.SCHEMA_VERSION, imported.SCHEMA_VERSION, readable.SCHEMA_VERSION}
    assert len(versions) == 1
    (path,) = written(tmp_path, 1)
    assert (whole_row(path.read_bytes()) or {})["v"] == readable.SCHEMA_VERSION
    key, version = VERSION_KEY, str(readable.SCHEMA_VERSION)
    seed = resources.files("dyno_proxy").joinpath("seed.parquet")
    file = file_names.parse(path.name)
    assert file is not None
    converted = convert(tmp_path, file).path
    with resources.as_file(seed) as planted, duckdb.connect() as connection:
        for parquet in (planted, converted):
            found = connection.execute(
                "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = ?", [str(parquet), key]
            ).fetchall()
            assert found == [(version,)], parquet


def test_limits_are_the_same(tmp_path: Path) -> None:
    """An import limits its journals and lines to the proxy's sizes, and DuckDB still reads the longest line."""
    assert staged.JOURNAL_BYTES == journal.JOURNAL_BYTES
    assert staged.LINE_BYTES == journal.LINE_BYTES < journal.JOURNAL_BYTES
    path = tmp_path / "w-000000000001.jsonl"
    path.write_bytes(b'{"name":"%b"}\n' % (b"x" * (journal.LINE_BYTES - len(b'{"name":""}\n'))))
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT length(name) FROM read_json(?, format = 'newline_delimited', columns = {name: 'VARCHAR'})",
            [str(path)],
        ).fetchall()
    assert found == [(path.stat().st_size - len(b'{"name":""}\n'),)]


def test_a_lines_keys_are_the_columns_that_are_read() -> None:
    """The proxy, an import and the SQL's `read_json` have the same columns in the same order."""
    columns = tuple(name for name, _ in span.COLUMNS)
    assert (*imported.LEADING_KEYS, "attributes") == columns
    for name in ("spans.sql", "collected_spans.sql"):
        text = (SQL / name).read_text(encoding="utf-8")
        _, _, table = text.partition("columns = {")
        assert tuple(re.findall(r"^\s+(\w+): '", table.partition("}\n")[0], re.MULTILINE)) == columns, name
