"""DuckDB's own shell over the spans, with nothing locked: `dyno sql --unsafe-shell`.

It can't be made safe. Whatever file it may read it may write, too, with `COPY … (USE_TMP_FILE false)`, and in its safe
mode `.pager` and `.edit` still run any program. So prompt.py is what opens without the flag.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from dyno_analysis.errors import InputError
from dyno_analysis.interrupts import left_to_child
from dyno_analysis.spans.views import list_files, views_sql
from dyno_analysis.temporary import temporary_folder


def open_shell(spans: Path) -> int:
    """Run the shell until the user leaves it; returns its exit code. InputError if it isn't installed."""
    here = str(Path(sys.executable).parent)
    program = shutil.which("duckdb", path=os.pathsep.join((here, os.environ.get("PATH", ""))))
    if program is None:
        raise InputError(
            "--unsafe-shell is DuckDB's own shell, and that isn't installed: pip install 'inference-dyno[shell]'; "
            "without the flag, a prompt that can only read opens"
        )
    program = _binary(Path(program))
    with temporary_folder("dyno-sql-") as folder, left_to_child():
        begin = folder / "begin.sql"
        nothing = folder / "nothing.jsonl"
        nothing.touch()
        begin.write_text(shell_sql(spans, nothing), encoding="utf-8")
        return subprocess.run([program, "-init", str(begin)], check=False).returncode  # noqa: S603  # DuckDB's own


def _binary(program: Path) -> str:
    """The shell's own program behind the Python script that the package installs: the script dies of a Ctrl-C."""
    package = find_spec("duckdb_cli")
    if package is not None and package.origin is not None and program.parent == Path(sys.executable).parent:
        binary = Path(package.origin).with_name("duckdb")
        if os.access(binary, os.X_OK):
            return str(binary)
    return str(program)


def shell_sql(spans: Path, nothing: Path) -> str:
    """The SQL that the shell runs first: the views.

    `nothing` is an empty file. Our own DuckDB reads /dev/null for this, but another version's shell may not.
    """
    return views_sql(list_files(spans), nothing)
