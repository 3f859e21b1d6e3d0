"""DuckDB's own shell over the spans, as `dyno sql` without a statement opens it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dyno_analysis.errors import InputError
from dyno_analysis.spans.folder import lock_sql
from dyno_analysis.spans.views import list_files, views_sql


def open_shell(spans: Path) -> int:
    """Run it until the person leaves; returns its exit code. InputError where it isn't installed."""
    here = str(Path(sys.executable).parent)
    program = shutil.which("duckdb", path=os.pathsep.join((here, os.environ.get("PATH", ""))))
    if program is None:
        raise InputError(
            "no statement, and DuckDB's shell isn't installed; mend: dyno sql \"SELECT …\", "
            "or pip install 'inference-dyno[shell]'"
        )
    with tempfile.TemporaryDirectory(prefix="dyno-sql-") as folder:
        begin = Path(folder) / "begin.sql"
        nothing = Path(folder) / "nothing.jsonl"
        nothing.touch()
        begin.write_text(shell_sql(spans, nothing), encoding="utf-8")
        return subprocess.run([program, "-init", str(begin)], check=False).returncode  # noqa: S603  # DuckDB's own


def shell_sql(spans: Path, nothing: Path) -> str:
    """What the shell begins with: the views, then the lock. From then on it can read the span files and nothing else.

    `nothing` is an empty file: the shell's DuckDB, which may be another version than ours, may not read /dev/null.
    """
    files = list_files(spans)
    return f"{views_sql(files, nothing)}\n{lock_sql([nothing, *files.all()])}"
