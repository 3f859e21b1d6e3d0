"""The report on a terminal by rich; in a pipe as plain, aligned text that grep finds."""

import sys
from collections.abc import Sequence

from .table import Table


def print_table(table: Table) -> None:
    """Print one table to standard output."""
    if sys.stdout.isatty():
        _print_rich(table)
    else:
        print("\n".join(plain_table(table)))


def plain_table(table: Table) -> list[str]:
    """The table's lines: title, columns two blanks apart, notes."""
    column_widths = widths(table)
    lines = [table.title, "-" * len(table.title)]
    lines += [_line(row, table.align, column_widths) for row in (table.columns, *table.rows)]
    return [*lines, *table.notes]


def widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]


def _print_rich(table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    laid_out = RichTable(title=table.title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for name, align in zip(table.columns, table.align, strict=True):
        laid_out.add_column(Text(name), justify="left" if align == "l" else "right", no_wrap=True)
    for row in table.rows:
        laid_out.add_row(*map(Text, row))
    # A figure cut short is a wrong figure: a wide table runs over the terminal's edge rather than lose digits.
    terminal = Console(highlight=False)
    needed = sum(widths(table)) + 3 * len(table.columns) + 2
    Console(highlight=False, width=max(terminal.width, needed)).print(laid_out)
    for note in table.notes:
        terminal.print(Text(note, style="dim"))


def _line(cells: Sequence[str], align: str, column_widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if side == "l" else cell.rjust(width)
        for cell, side, width in zip(cells, align, column_widths, strict=True)
    ]
    return "  ".join(padded).rstrip()
