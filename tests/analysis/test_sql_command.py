"""`dyno sql`: its formats, byte for byte, what it refuses, and how it says so."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import span, write

QUERY = 'SELECT endpoint, latency_s, simulated, finish_reason AS "a|b" FROM spans ORDER BY latency_s'


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spans")
    write(
        folder,
        [
            span(duration_us=1_500_000, simulated=True, finish_reasons=['sto"p,|']),
            span(duration_us=2_000_000, endpoint="sophia", simulated=False),
        ],
    )
    return folder


TABLE = """\
endpoint  latency_s  simulated  a|b
metis     1.5        true       sto"p,|
sophia    2.0        false      NULL
"""
CSV = """\
endpoint,latency_s,simulated,a|b
metis,1.5,true,"sto""p,|"
sophia,2.0,false,
"""
JSON = """\
[
{"endpoint":"metis","latency_s":1.5,"simulated":true,"a|b":"sto\\"p,|"},
{"endpoint":"sophia","latency_s":2.0,"simulated":false,"a|b":null}
]
"""
MARKDOWN = """\
| endpoint | latency_s | simulated | a\\|b |
|---|---|---|---|
| metis | 1.5 | true | sto"p,\\| |
| sophia | 2.0 | false |  |
"""


@pytest.mark.parametrize(("form", "expected"), [("table", TABLE), ("csv", CSV), ("json", JSON), ("markdown", MARKDOWN)])
def test_formats(spans: Path, form: str, expected: str) -> None:
    """Each text format is exactly this text, and standard error is empty."""
    done = dyno("sql", QUERY, "--spans", spans, "--format", form)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_csv_has_line_feeds_alone(spans: Path) -> None:
    """CSV lines end in LF, as bytes, without a mark at the start."""
    command = [sys.executable, "-m", "dyno", "sql", "SELECT 1 AS a", "--spans", str(spans), "--format", "csv"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"a\n1\n"


@pytest.mark.parametrize("to_file", [True, False])
def test_parquet(spans: Path, tmp_path: Path, to_file: bool) -> None:
    """Parquet, to a file or a pipe, keeps names and types."""
    path = tmp_path / "out.parquet"
    command = [sys.executable, "-m", "dyno", "sql", QUERY, "--spans", str(spans), "--format", "parquet"]
    done = subprocess.run([*command, *(["--output", str(path)] if to_file else [])], capture_output=True, check=True)
    assert done.stderr == b""
    if not to_file:
        path.write_bytes(done.stdout)
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        assert found.fetchall() == [("metis", 1.5, True, 'sto"p,|'), ("sophia", 2.0, False, None)]


def test_empty_results(spans: Path) -> None:
    """Without rows the output is a header only, or in JSON an empty array."""
    query = "SELECT endpoint FROM spans WHERE false"
    outputs = [dyno("sql", query, "--spans", spans, "--format", form).stdout for form in ("csv", "json", "table")]
    assert outputs == ["endpoint\n", "[]\n", "endpoint\n"]


def test_stamps_are_utc_whatever_the_zone(spans: Path) -> None:
    """Times are printed in UTC."""
    done = dyno("sql", "SELECT make_timestamptz(0) AS t", "--spans", spans, "--format", "csv")
    assert done.stdout == "t\n1970-01-01 00:00:00+00\n"


@pytest.mark.parametrize(
    ("query", "first_line"),
    [
        ("DESCRIBE spans", "column_name,column_type,null,key,default,extra"),
        ("SHOW TABLES", "name"),
        ("SUMMARIZE spans", "column_name,column_type,min,max,"),
        ("FROM spans SELECT count(*) AS n; -- done; really", "n"),
        ("PIVOT (SELECT endpoint FROM spans) ON endpoint USING count(*)", "metis,sophia"),
        ("EXPLAIN SELECT 1", "plan"),
        ("EXPLAIN ANALYZE FROM spans;", "plan"),
        ("VALUES (1)", "col0"),
        ("SELECT ';--' AS a", "a"),
    ],
)
def test_statements_that_read(spans: Path, query: str, first_line: str) -> None:
    """Whatever only reads is run."""
    done = dyno("sql", query, "--spans", spans, "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(first_line)


def test_statement_from_standard_input(spans: Path) -> None:
    """Without an argument the statement is what is piped in."""
    done = dyno("sql", "--spans", spans, "--format", "csv", stdin="SELECT count(*) AS n\nFROM spans;\n")
    assert done.stdout == "n\n2\n"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FORM spans", 'syntax error at or near "spans" (line 1, column 15)'),
        ("SELECT 'ü',\n  nope\nFROM spans", "(line 2, column 3)"),
        ("EXPLAIN SELECT nope FROM spans", "(line 1, column 16)"),
        ("FROM spanz", 'Did you mean "spans"?'),
        ("SELECT CAST(endpoint AS INT) FROM spans", "Conversion Error"),
        ("SELECT error('two\nlines')", "two lines"),
        ("", "no statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
    ],
)
def test_errors_in_the_statement(spans: Path, query: str, message: str) -> None:
    """DuckDB's message and its place in the statement as it was written, on one line."""
    line = refusal("sql", query, "--spans", spans)
    assert line.startswith("dyno sql: ")
    assert message in line


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '{target}'",
        "WITH w AS (COPY (SELECT 1) TO '{target}' (USE_TMP_FILE false)) SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{target}'",
        "EXPLAIN ANALYZE WITH w AS (COPY (SELECT 1) TO '{target}') SELECT 1",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{target}''')",
        "ATTACH '{target}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA threads = 1",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO spans SELECT * FROM spans",
        "DROP VIEW spans",
        "EXPORT DATABASE '{target}'",
        "SELECT * FROM read_text('{readable}')",
        "FROM '{readable}'",
        "SELECT * FROM glob('{folder}/*')",
        "FROM 'https://example.org/x.csv'",
    ],
)
@pytest.mark.parametrize("existing", [True, False], ids=["the span file", "a new file"])
def test_read_only(spans: Path, tmp_path: Path, query: str, existing: bool) -> None:
    """Nothing writes, not even to the span files that may be read; nothing else is read; the network isn't touched."""
    journal = next(spans.glob("*.jsonl"))
    before = journal.read_bytes()
    readable = tmp_path / "secret.csv"
    readable.write_text("a\n1\n")
    target = journal if existing else tmp_path / "new"
    refusal("sql", query.format(target=target, readable=readable, folder=tmp_path), "--spans", spans)
    assert journal.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert list(spans.iterdir()) == [journal]


def test_output_is_kept_where_the_statement_fails(spans: Path, tmp_path: Path) -> None:
    """A statement that fails leaves the file that --output names as it was."""
    path = tmp_path / "out.csv"
    path.write_text("precious")
    refusal("sql", "SELECT nope FROM spans", "--spans", spans, "--format", "csv", "--output", path)
    assert path.read_text() == "precious"
    assert dyno("sql", "SELECT 1 AS a", "--spans", spans, "--format", "csv", "--output", path).returncode == 0
    assert path.read_text() == "a\n1\n"


def test_bad_folders_and_flags(spans: Path, tmp_path: Path) -> None:
    """A missing folder, an unknown format and an output that can't be written are one line each."""
    assert f"'{tmp_path / 'gone'}' doesn't exist" in refusal("sql", "SELECT 1", "--spans", tmp_path / "gone")
    assert "invalid choice: 'xml'" in refusal("sql", "SELECT 1", "--spans", spans, "--format", "xml")
    assert "can't write" in refusal("sql", "SELECT 1", "--spans", spans, "--output", tmp_path / "no" / "folder")


def test_reader_that_leaves_early(spans: Path) -> None:
    """`dyno sql … | head` ends without a complaint."""
    command = [sys.executable, "-m", "dyno", "sql", "FROM range(500000)", "--spans", str(spans), "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"range\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_json_is_json(spans: Path) -> None:
    """Nested values stay nested."""
    done = dyno("sql", "SELECT [1, 2] AS l, {'k': 1.5} AS s, NULL AS n", "--spans", spans, "--format", "json")
    assert json.loads(done.stdout) == [{"l": [1, 2], "s": {"k": 1.5}, "n": None}]
