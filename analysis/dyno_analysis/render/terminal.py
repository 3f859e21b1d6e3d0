"""Prints a table: on a terminal with rich, in a pipe as plain, aligned text that grep finds."""

import sys

from dyno_analysis.controls import visible

from .table import Table, plain_table, widths


def print_table(table: Table) -> None:
    """Print one table to standard output."""
    if sys.stdout.isatty():
        _print_rich(
            Table(
                title=visible(table.title),
                columns=[visible(name) for name in table.columns],
                align=table.align,
                rows=[[visible(cell) for cell in row] for row in table.rows],
                notes=[visible(note) for note in table.notes],
                defined=table.defined,
            )
        )
    else:
        print("\n".join(plain_table(table)))


def print_line(line: str) -> None:
    """Print a line to standard output; on a terminal its control characters are made visible."""
    print(visible(line) if sys.stdout.isatty() else line)


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
    for note in table.lines_beneath:
        terminal.print(Text(note, style="dim"))
