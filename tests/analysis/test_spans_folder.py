"""Which folder commands read where none is given, and what a command says that lacks a package."""

import subprocess
import sys
from pathlib import Path

import pytest

from rigs.dyno_command import dyno
from rigs.stored_spans import pair, write

COMMANDS = {
    "sql": ("sql", "SELECT count(*) AS n FROM spans", "--format", "csv"),
    "report": ("report", "--since", "2020-01-01"),
    "compact": ("compact", "--dry-run"),
    "trace": ("trace", "0"),
}


def stored(folder: Path) -> Path:
    write(folder, pair("a", 1.0, 2.0))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_one_rule_for_all_commands(tmp_path: Path, command: str) -> None:
    """--spans, then DYNO_PROXY_SPANS, then ./dyno.toml's [proxy] spans, then ./spans."""
    elsewhere = stored(tmp_path / "elsewhere")
    (tmp_path / "dyno.toml").write_text('[proxy]\nspans = "elsewhere"\n')
    configured = dyno(*COMMANDS[command], cwd=tmp_path)
    told = dyno(*COMMANDS[command], cwd=tmp_path, environment={"DYNO_PROXY_SPANS": "nowhere"})
    given = dyno(*COMMANDS[command], "--spans", elsewhere, cwd=tmp_path, environment={"DYNO_PROXY_SPANS": "nowhere"})
    assert (configured.returncode, configured.stderr) == (given.returncode, given.stderr)
    assert configured.returncode == 0 or "2 traces" in configured.stderr
    assert "nowhere" in told.stderr or told.stdout != configured.stdout
    (tmp_path / "dyno.toml").write_text("[proxy\n")
    broken = dyno(*COMMANDS[command], cwd=tmp_path)
    assert broken.returncode == 2
    assert "dyno.toml" in broken.stderr
    assert broken.stderr.count("\n") == 1


def test_an_import_goes_where_reports_look(tmp_path: Path) -> None:
    """`dyno import` stores where the other commands read."""
    (tmp_path / "dyno.toml").write_text('[proxy]\nspans = "kept"\n')
    sample = Path(__file__).parent / "imported" / "envoy_genai.jsonl"
    assert dyno("import", sample, cwd=tmp_path).returncode == 0
    assert dyno("sql", "SELECT count(*) AS n FROM spans", "--format", "csv", cwd=tmp_path).stdout == "n\n1\n"


@pytest.mark.parametrize(
    ("package", "command", "says"),
    [
        ("duckdb", ("report",), "dyno report: 'duckdb' is missing: pip install 'inference-dyno[analysis]'\n"),
        ("duckdb", ("sql", "SELECT 1"), "dyno sql: 'duckdb' is missing: pip install 'inference-dyno[analysis]'\n"),
        ("numpy", ("compact",), "dyno compact: 'numpy' is missing: pip install 'inference-dyno[analysis]'\n"),
        ("rich", ("trace", "0"), "dyno trace: 'rich' is missing: pip install 'inference-dyno[analysis]'\n"),
        ("duckdb", ("compare",), "dyno compare: 'duckdb' is missing: pip install 'inference-dyno[analysis]'\n"),
        ("pyarrow", ("compare",), "dyno compare: 'pyarrow' is missing: pip install 'inference-dyno[driver]'\n"),
        ("pyarrow", ("drive",), "dyno drive: 'pyarrow' is missing: pip install 'inference-dyno[driver]'\n"),
    ],
)
def test_a_missing_extra(tmp_path: Path, package: str, command: tuple[str, ...], says: str) -> None:
    """It is one line that names the extra, before anything runs; --help needs none of it."""
    program = f"import sys; sys.modules[{package!r}] = None; import dyno; sys.exit(dyno.main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", says)
    assert not list(tmp_path.iterdir())
    helped = subprocess.run(
        [sys.executable, "-c", program, command[0], "--help"], capture_output=True, check=False, timeout=60
    )
    assert helped.returncode == 0


def test_rows_as_records(tmp_path: Path) -> None:
    """A line per column, an empty line between rows; without a statement on standard input, a line says so."""
    write(tmp_path, pair("a", 1.0, 2.0))
    query = "SELECT endpoint, latency_s AS seconds, NULL AS none FROM spans ORDER BY 1"
    done = dyno("sql", query, "--format", "record", "--spans", tmp_path)
    assert done.stdout == (
        "endpoint  metis\nseconds   1.0\nnone      NULL\n\nendpoint  sophia\nseconds   2.0\nnone      NULL\n"
    )
    empty = dyno("sql", "--spans", tmp_path, stdin="")
    assert empty.returncode == 2
    assert empty.stderr.startswith("dyno sql: no statement is given: standard input is empty")


def test_a_refused_file_names_the_flag(tmp_path: Path) -> None:
    """A statement that reads another file, or writes, is told of --allow-writes."""
    write(tmp_path, pair("a", 1.0, 2.0))
    (tmp_path / "other.csv").write_text("a\n1\n")
    for statement in (f"FROM '{tmp_path}/other.csv'", f"COPY spans TO '{tmp_path}/out.csv'"):
        assert "--allow-writes" in dyno("sql", statement, "--spans", tmp_path).stderr
