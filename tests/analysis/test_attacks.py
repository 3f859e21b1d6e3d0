"""What a statement, a link, an output or a prepared folder might do to span files and to other files: nothing."""

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

import dyno_analysis
from dyno_analysis import temporary
from dyno_analysis.compaction.convert import convert
from dyno_analysis.errors import InputError
from dyno_analysis.ingest.formats import published_results
from dyno_analysis.query import output_file
from dyno_analysis.query.prompt import ends
from dyno_analysis.query.statement import Statement, lock_for_statements
from dyno_analysis.runs.folder import define_answers, read_run
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.spans.file_names import parse
from dyno_analysis.spans.views import connect_views, list_files
from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import span, write
from rigs.terminal import in_a_terminal

# {s}: a journal, {p}: a Parquet span file, {new}: a file that isn't there, {other}: one that isn't a span file's,
# {spans}: the spans folder.
STATEMENTS = [
    *(
        f"COPY (SELECT 1 AS a) TO '{target}' ({options})"
        for target in ("{s}", "{p}", "{new}", "{other}", "{spans}/../spans/w-000000000001.jsonl")
        for options in ("USE_TMP_FILE false", "FORMAT csv", "FORMAT parquet, USE_TMP_FILE false", "FORMAT json")
    ),
    "COPY spans TO '{s}'",
    "COPY (SELECT 1) TO '{spans}' (PARTITION_BY (a), OVERWRITE)",
    "COPY spans FROM '{s}'",
    "WITH w AS (COPY (SELECT 1) TO '{s}' (USE_TMP_FILE false)) SELECT 1",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{s}' (USE_TMP_FILE false)",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{s}'' (USE_TMP_FILE false)')",
    "PREPARE q AS COPY (SELECT 1) TO '{s}' (USE_TMP_FILE false)",
    "EXECUTE q",
    "EXPORT DATABASE '{new}'",
    "EXPORT DATABASE '{spans}'",
    "IMPORT DATABASE '{spans}'",
    *(f"ATTACH '{target}'" for target in ("{s}", "{p}", "{new}", "{other}")),
    "ATTACH '{s}' AS a (READ_ONLY)",
    "ATTACH ':memory:' AS m",
    "USE m",
    "CHECKPOINT",
    "SET log_query_path = '{s}'",
    "SET log_query_path = '{new}'",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{s}'",
    "SET profiling_output = '{s}'",
    "SET profile_output = '{s}'",
    "CALL enable_logging(storage = 'file', storage_path = '{new}')",
    "SET secret_directory = '{spans}'",
    "SET temp_directory = '{spans}'",
    "SET home_directory = '{spans}'",
    "SET extension_directory = '{spans}'",
    "SET file_search_path = '/etc'",
    "SET enable_external_access = true",
    "SET allowed_paths = ['/etc/passwd']",
    "SET allowed_directories = ['/']",
    "SET disabled_filesystems = ''",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "RESET allowed_paths",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET VARIABLE dyno_spans_1 = ['/etc/passwd']",
    "PRAGMA memory_limit = '100GB'",
    "CREATE SECRET s (TYPE s3)",
    "CREATE PERSISTENT SECRET s (TYPE s3)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{other}'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW spans AS SELECT 1",
    "CREATE OR REPLACE MACRO p(x, q) AS 1",
    "DROP VIEW spans",
    "INSERT INTO spans SELECT * FROM spans",
    "UPDATE spans SET endpoint = 'x'",
    "DELETE FROM spans",
    "BEGIN",
    "SELECT * FROM read_text('{other}')",
    "SELECT * FROM read_blob('{other}')",
    "SELECT * FROM read_csv('{other}')",
    "SELECT * FROM read_json('/proc/self/environ')",
    "SELECT * FROM read_text('{spans}/../other.csv')",
    "SELECT * FROM read_text('/proc/self/cwd/other.csv')",
    "FROM '{other}'",
    "SELECT * FROM glob('{spans}/../*')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM sniff_csv('{other}')",
    "SELECT getenv('HOME')",
    "FROM 'https://example.org/x.csv'",
    "SELECT 1; COPY (SELECT 1) TO '{s}' (USE_TMP_FILE false)",
]
# What DuckDB's own shell would do.
COMMANDS = [
    *(f".system touch {target}" for target in ("{new}", "{s}")),
    ".shell touch {new}",
    ".sh touch {new}",
    ".output {s}",
    ".once {s}",
    ".once |touch {new}",
    ".excel",
    ".log {s}",
    ".open {new}",
    ".open --new {s}",
    ".import {other} t",
    ".read {other}",
    ".cd /",
    ".edit",
    ".pager 'touch {new}'",
    ".save {new}",
    ".backup {new}",
    ".dump",
    ".safe_mode",
    "\\e",
    "\\! touch {new}",
    "!touch {new};",
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """`spans` with a journal and a Parquet file, and beside it a file of somebody's. Nothing in it may change."""
    spans = tmp_path / "spans"
    old = write(spans, [span(), span()])
    file = parse(old.name)
    assert file is not None
    convert(spans, file)
    old.unlink()
    write(spans, [span()]).rename(spans / "w-000000000001.jsonl")
    (tmp_path / "other.csv").write_text("a\nsecret\n")
    before = contents(tmp_path)
    yield tmp_path
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, but for what a command needs for itself."""
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and folder / "tmp" not in path.parents
    }


def filled(text: str, folder: Path) -> str:
    (parquet,) = (folder / "spans").glob("*.parquet")
    places = {"s": folder / "spans" / "w-000000000001.jsonl", "p": parquet, "new": folder / "new"}
    return text.format(**places, other=folder / "other.csv", spans=folder / "spans")


def test_statements(folder: Path) -> None:
    """Each is refused, and the views still answer."""
    files = list_files(folder / "spans")
    with connect_views(folder / "spans", files) as connection:
        lock_for_statements(connection, files.all())
        for text in (filled(each, folder) for each in STATEMENTS):
            with pytest.raises(InputError):
                list(Statement(connection, text, files.all(), locked=True).rows()[1])
        count = Statement(connection, "SELECT count(*) FROM spans", files.all(), locked=True)
        assert list(count.rows()[1]) == [["3"]]


def test_the_prompt_in_a_real_terminal(folder: Path) -> None:
    """All of it, and what DuckDB's own shell would obey, pasted line by line: refused; the prompt goes on."""
    environment = {"HOME": str(folder), "EDITOR": "touch", "PAGER": "touch"}
    (folder / "tmp").mkdir()
    with in_a_terminal(folder, "sql", environment=environment) as terminal:
        terminal.shows(b" D ")
        attacks = [*COMMANDS, *(f"{statement};" for statement in STATEMENTS if "1; COPY" not in statement)]
        for number, attack in enumerate(attacks):
            terminal.types(filled(attack, folder).encode() + f"\rSELECT 'mark' || {number};\r".encode())
            terminal.shows(f"mark{number}".encode())
        terminal.types(b"SELECT 1; SELECT 40 + count(*) FROM spans;\r.exit\r")
        assert terminal.ends()[0] == 0
    assert b"43" in terminal.seen
    assert b"secret" not in terminal.seen
    assert b"Traceback" not in terminal.seen
    assert not list((folder / "tmp").iterdir())


def test_a_users_own_settings(folder: Path) -> None:
    """A ~/.duckdbrc doesn't run at the prompt, which isn't DuckDB's shell."""
    (folder / "tmp").mkdir()
    home = folder / "tmp" / "home"
    home.mkdir()
    (home / ".duckdbrc").write_text(f".shell touch {folder}/new\nCREATE MACRO p(x, q) AS 17;\n")
    with in_a_terminal(folder, "sql", environment={"HOME": str(home)}) as terminal:
        terminal.shows(b" D ")
        terminal.types(b"SELECT 40 + p(latency_s, 0.5) AS x FROM spans;\r")
        terminal.shows(b"41.0")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("SELECT 1;", True),
        ("SELECT 1; -- done", True),
        ("SELECT 1", False),
        ("SELECT ';", False),
        ("SELECT ';';", True),
        ('SELECT "a;', False),
        ("SELECT 1 /* ;", False),
        ("SELECT 1 /* ; */;", True),
        ("SELECT $$;$$;", True),
        ("SELECT 'it''s';", True),
        ("-- it's\nSELECT 1;", True),
    ],
)
def test_where_a_statement_ends(text: str, whole: bool) -> None:
    """At a semicolon that is in no string, name or comment."""
    assert ends(text) is whole


OUTPUTS = [
    "spans/w-000000000001.jsonl",
    "spans/../spans/w-000000000001.jsonl",
    "linked/w-000000000001.jsonl",
    "hard.csv",
    "link.csv",
    "spans/new.parquet",
    "spans/new-000000000001.jsonl",
    "linked/new.parquet",
    "spans/.dyno.lock",
    "spans/training/new.jsonl",
    "spans/collected/x.parquet",
    "spans/runs/a/run.json",
    "spans/runs/a/prompts.parquet",
]


@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs_that_would_hit_span_files(folder: Path, output: str) -> None:
    """Whatever name, link or spelling leads there: refused before anything is read or written."""
    spans = folder / "spans"
    for name in ("training", "collected", "runs/a"):
        (spans / name).mkdir(parents=True)
    (folder / "linked").symlink_to("spans")
    (folder / "link.csv").symlink_to("spans/w-000000000001.jsonl")
    os.link(spans / "w-000000000001.jsonl", folder / "hard.csv")
    with pytest.raises(InputError, match="--output"):
        output_file.check_output(folder / output, spans)
    with pytest.raises(InputError, match="--output"):
        output_file.check_output(folder / output, folder / "linked")
    (folder / "hard.csv").unlink()
    for name in ("linked", "link.csv"):
        (folder / name).unlink()


@pytest.mark.parametrize("output", ["out.csv", "spans/out.csv", "spans/out.json", "other.csv", "/dev/null"])
def test_outputs_that_are_allowed(folder: Path, output: str) -> None:
    """Anything else, also in the spans folder: nothing reads it there."""
    output_file.check_output(folder / output, folder / "spans")


def test_an_output_that_is_refused(folder: Path) -> None:
    """In one line, with exit code 2; a device is written to, and not replaced by a file."""
    target = folder / "spans" / "w-000000000001.jsonl"
    assert "--output" in refusal("sql", "FROM spans", "--spans", folder / "spans", "--output", target)
    assert dyno("sql", "FROM spans", "--spans", folder / "spans", "--output", "/dev/null").returncode == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


LINKS = {
    "w2-000000000001.jsonl": "{other}",
    "20261124T215900Z_20261124T220000Z_ffffffffffffffff_w3-000000000001-000000000002.parquet": "/etc/passwd",
    "w4-000000000001.jsonl": "w-000000000001.jsonl",
    "w5-000000000001.jsonl": "../other.csv",
    "training/a.jsonl": "{other}",
    "collected": "{outside}",
    "training": "{outside}",
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("linked", [False, True], ids=["the folder", "a link to the folder"])
def test_links_that_lead_out(folder: Path, name: str, linked: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """They are named and left out, and no statement reads what they lead to. The spans folder itself may be a link."""
    outside = folder / "tmp"
    write(outside, [span(endpoint="elsewhere")])
    (outside / "a.jsonl").write_text('{"training_id": "elsewhere"}\n')
    link = folder / "spans" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(LINKS[name].format(other=folder / "other.csv", outside=outside))
    spans = folder / "spans"
    if linked:
        spans = folder / "tmp" / "spans"
        spans.symlink_to(folder / "spans")
    with dyno_analysis.connect(spans) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchall() == [(3,)]
        assert connection.execute("SELECT count(*) FROM collected_spans").fetchall() == [(0,)]
        assert connection.execute("SELECT count(*) FROM training").fetchall() == [(0,)]
        assert outside / "a.jsonl" not in list_files(spans).all()
    (said,) = set(capfd.readouterr().err.splitlines())  # the folder was listed twice
    assert said.startswith(f"dyno: '{spans / name}' is left out: it is a link ")
    link.unlink()


@pytest.mark.parametrize("linked", ["runs", "runs/a", "runs/a/run.json", "runs/a/answers.parquet"])
def test_runs_that_lead_out(folder: Path, linked: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A run's record and its answers aren't read from elsewhere either."""
    outside = folder / "tmp" / "runs" / "a"
    outside.mkdir(parents=True)
    (outside / "run.json").write_text('{"run_id": "a", "workload": "elsewhere"}')
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 'x' AS answer) TO '{outside}/answers.parquet'")
    link = folder / "spans" / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder / "tmp" / linked)
    if linked == "runs/a/answers.parquet":
        record = RunRecord("a", folder / "spans" / "runs" / "a", {})
        with duckdb.connect() as connection:
            define_answers(connection, [record])
            assert connection.execute("SELECT count(*) FROM answers").fetchall() == [(0,)]
    else:
        assert read_run(folder / "spans", "a") is None
        assert "leads out of the spans folder" in capfd.readouterr().err
    link.unlink()


def test_a_temporary_folder_that_somebody_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can guess its name. If somebody does all the same, neither their link nor their folder is used."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    names = iter(["guessed", "guessed_too", "free", "late"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / ".dyno-new-guessed").symlink_to(theirs)
    (tmp_path / ".dyno-new-guessed_too").mkdir()
    (tmp_path / "dyno-sql-late").symlink_to(theirs)
    for expected in ("dyno-sql-free", ".dyno-new-late"):
        with temporary.temporary_folder("dyno-sql-") as made:
            assert made == tmp_path / expected
            found = made.lstat()
            assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, os.geteuid())
            (made / "rows").touch()
            assert not list(theirs.iterdir())
        assert not made.exists()


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "", "/etc", ".hidden", "a\n"])
def test_a_run_id_that_names_another_folder(name: str) -> None:
    """A results file's run id becomes the name of a folder, which is replaced. So it may not lead anywhere else."""
    document = {"runs": [{"run_id": name}]}
    assert (
        published_results._run_id(document, datetime(2026, 1, 1, tzinfo=UTC), own=True) == "published_20260101_000000"
    )
