"""A prompt for one statement after another. `dyno sql` without a statement opens it on a terminal.

Each statement runs as `dyno sql STATEMENT` does: it can read the views, and nothing else. Ctrl-C ends the statement.
"""

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.errors import InputError
from dyno_analysis.interrupts import one_statement, prompting
from dyno_analysis.spans.folder import UnreadableError, leave_out_broken, said_once

from .statement import Statement, lock_for_statements

_FIRST: Final = "dyno D "
_MORE: Final = "   ... "
_TABLES: Final = "SHOW TABLES"
_HELP: Final = """\
A statement ends with a semicolon, and may have several lines. It can read the views of the spans: .tables lists them,
DESCRIBE spans; lists the columns. Ctrl-C ends a statement; .exit or Ctrl-D ends this prompt.
DuckDB's own shell, which may do anything to any file: dyno sql --unsafe-shell"""
# Strings, names and comments: a semicolon in them ends nothing.
_QUOTED: Final = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$", re.DOTALL
)

# Opens the views; also gives the files that a statement may read.
Open = Callable[[], tuple[duckdb.DuckDBPyConnection, Sequence[Path]]]
Show = Callable[[Statement], None]


class Prompt:
    """Reads statements from standard input and shows their rows."""

    def __init__(self, open_views: Open, show: Show, spans: Path, timeout_s: float | None) -> None:
        self._open = open_views
        self._show = show
        self._spans = spans
        self._timeout_s = timeout_s
        self._timed_out = False

    def run(self) -> int:
        """Answer until the user leaves; returns the exit code 0."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # it gives `input` a line to edit, and what was typed before
        with said_once():
            self._connect()
            print("dyno sql: reads only; .help says more", flush=True)
            with prompting():
                while self._goes_on():
                    pass
        return 0

    def _goes_on(self) -> bool:
        """Answer one statement or command; False if the user leaves."""
        try:
            text = _asked()
            if text in (".exit", ".quit", "\\q"):
                return False
            self._answer(text)
        except KeyboardInterrupt:
            print(flush=True)
        except EOFError:
            print(flush=True)
            return False
        return True

    def _connect(self) -> None:
        self._connection, self._files = self._open()
        lock_for_statements(self._connection, self._files)

    def _answer(self, text: str) -> None:
        if text == ".tables":
            text = _TABLES
        elif text == ".help":
            print(_HELP, flush=True)
            return
        elif text.startswith((".", "\\")):
            _complain(f"'{text.split()[0]}' is no command here, see .help; DuckDB's shell: dyno sql --unsafe-shell")
            return
        for each in self._statements(text):
            try:
                self._run(each)
            except UnreadableError as error:
                if not leave_out_broken(self._spans, error):
                    _complain(str(error))
                    continue
                self._connection.close()
                self._connect()
                self._run_again(each)
            except InputError as error:
                _complain(self._stopped() or str(error))

    def _statements(self, text: str) -> list[str]:
        try:
            return [statement.query for statement in self._connection.extract_statements(text)]
        except duckdb.Error:
            return [text]  # running it says what is wrong, and where

    def _run(self, text: str) -> None:
        try:
            with self._limited(), one_statement():
                self._show(Statement(self._connection, text, self._files, locked=True))
                sys.stdout.flush()
        except RuntimeError as error:
            # What DuckDB's client makes of a KeyboardInterrupt that reaches it within a statement.
            if str(error) != "Query interrupted":
                raise
            raise KeyboardInterrupt from error

    def _run_again(self, text: str) -> None:
        try:
            self._run(text)
        except InputError as error:
            _complain(self._stopped() or str(error))

    def _stopped(self) -> str | None:
        return f"stopped after {self._timeout_s:g} s (--timeout)" if self._timed_out else None

    @contextmanager
    def _limited(self) -> Iterator[None]:
        self._timed_out = False
        if self._timeout_s is None:
            yield
            return
        timer = threading.Timer(self._timeout_s, self._time_is_over)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_is_over(self) -> None:
        self._timed_out = True
        self._connection.interrupt()


def ends(text: str) -> bool:
    """Whether the lines typed so far end with a semicolon that ends a statement."""
    rest = _QUOTED.sub(" ", text)
    return rest.rstrip().endswith(";") and not any(begin in rest for begin in ("'", '"', "/*"))


def _asked() -> str:
    """The next statement, or a command that begins with a dot. EOFError at the end of the input."""
    lines: list[str] = []
    while True:
        line = input(_MORE if lines else _FIRST)
        if not lines and (not line.strip() or line.lstrip().startswith((".", "\\"))):
            if line.strip():
                return line.strip()
            continue
        lines.append(line)
        if ends("\n".join(lines)):
            return "\n".join(lines)


def _complain(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
