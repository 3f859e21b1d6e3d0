"""Prints tables and lines as wide as the terminal. In a pipe nothing is broken, so that grep finds it."""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace

from dyno_analysis.controls import on_one_line

from .layout import laid_out
from .table import Table
from .wrapping import wrapped

_STYLES = {"title": "bold", "note": "dim"}
_LEAST = 20
_UNLIMITED = 1_000_000


def is_terminal() -> bool:
    """Whether a person reads standard output as it comes."""
    return sys.stdout.isatty()


def columns() -> int:
    """How wide to print: the terminal's width, or COLUMNS if it is set; in a pipe there is no limit."""
    if not is_terminal():
        return _UNLIMITED
    return max(shutil.get_terminal_size((80, 24)).columns, _LEAST)


def print_table(table: Table) -> None:
    """Print one table to standard output, in as many lines as it needs; its control characters are made visible."""
    shown = replace(
        table,
        title=on_one_line(table.title),
        columns=[on_one_line(name) for name in table.columns],
        rows=[[on_one_line(cell) for cell in row] for row in table.rows],
        notes=[on_one_line(note) for note in table.notes],
    )
    print_styled((_STYLES.get(part, ""), line) for part, line in laid_out(shown, columns()))


def print_text(text: str, indent: str = "", *, whole: bool = False) -> None:
    """Print a text, broken at blanks; its further lines begin with `indent`. `whole`: no word (a path) is broken."""
    print_styled(("", line) for line in wrapped(on_one_line(text), columns(), indent, whole=whole))


def print_line(line: str) -> None:
    """Print a line as it is; its control characters are made visible."""
    print(on_one_line(line))


def print_styled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines with their styles, which are rich's, to a terminal that knows styles and without NO_COLOR."""
    if not is_terminal() or os.environ.get("NO_COLOR"):
        sys.stdout.writelines(f"{line}\n" for _, line in lines)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for style, line in lines:
        console.print(Text(line, style=style), soft_wrap=True)
