"""A statement's rows as text (table, CSV, JSON, Markdown), or as Parquet or Arrow."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO

from dyno_analysis.errors import InputError
from dyno_analysis.render.table import Table, widths
from dyno_analysis.temporary import temporary_folder

from .statement import Statement

# What a spreadsheet takes for a formula, unless it is a number.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# A string of JSON, which stays as it is, or a number that JSON doesn't have.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity|nan|inf)\b')
_MAY_LACK_NUMBERS = re.compile("nan|inf", re.IGNORECASE)
# In this order: what is put in isn't changed again.
_MARKDOWN = (
    ("\\", "\\\\"),
    ("&", "&amp;"),
    ("<", "&lt;"),
    (">", "&gt;"),
    ("|", "\\|"),
    ("](", "]\\("),
)


def csv_pieces(statement: Statement) -> Iterator[str]:
    """A header line, then one line per row, ended by LF; NULL is an empty cell."""
    return _csv(statement, str)


def spreadsheet_pieces(statement: Statement) -> Iterator[str]:
    """As `csv_pieces`, but no cell is a formula: what would be one begins with an apostrophe."""
    return _csv(statement, no_formula)


def _csv(statement: Statement, cell: Callable[[str], str]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names, rows = statement.rows()
    writer.writerow([cell(name) for name in names])
    yield _emptied(buffer)
    for row in rows:
        writer.writerow(["" if value is None else cell(value) for value in row])
        yield _emptied(buffer)


def no_formula(cell: str) -> str:
    """The cell's text as no spreadsheet runs it."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def json_pieces(statement: Statement) -> Iterator[str]:
    """An array of objects, one per line."""
    lead = "[\n"
    for row in statement.json_rows():
        yield lead + strict_json(row)
        lead = ",\n"
    yield "[]\n" if lead == "[\n" else "\n]\n"


def strict_json(text: str) -> str:
    """JSON with null for NaN and Infinity, which JSON doesn't have and DuckDB writes."""
    if _MAY_LACK_NUMBERS.search(text) is None:
        return text
    return _JSON_TOKEN.sub(lambda found: found[0] if found[0][0] == '"' else "null", text)


def markdown_pieces(statement: Statement) -> Iterator[str]:
    """A Markdown table; NULL is an empty cell."""
    names, rows = statement.rows()
    yield _markdown_row(names)
    yield "|" + "---|" * len(names) + "\n"
    for row in rows:
        yield _markdown_row(["" if value is None else value for value in row])


def table_pieces(statement: Statement) -> Iterator[str]:
    """Columns two spaces apart, with nothing cut off; NULL is written as NULL."""
    table = _table(statement)
    column_widths = widths(table)
    for cells in (table.columns, *table.rows):
        padded = (cell.ljust(width) for cell, width in zip(cells, column_widths, strict=True))
        yield "  ".join(padded).rstrip() + "\n"


def record_pieces(statement: Statement) -> Iterator[str]:
    """A line per column, `name  value`, and an empty line between rows; NULL is written as NULL."""
    names, rows = statement.rows()
    width = max((len(name) for name in names), default=0)
    between = ""
    for row in rows:
        lines = (
            f"{name:<{width}}  {'NULL' if value is None else value}".rstrip()
            for name, value in zip(names, row, strict=True)
        )
        yield between + "\n".join(lines) + "\n"
        between = "\n"


PIECES: dict[str, Callable[[Statement], Iterator[str]]] = {
    "table": table_pieces,
    "record": record_pieces,
    "csv": csv_pieces,
    "spreadsheet": spreadsheet_pieces,
    "json": json_pieces,
    "markdown": markdown_pieces,
}


def print_rich(statement: Statement) -> None:
    """Print the rows as a table on a terminal."""
    from dyno_analysis.render.terminal import print_table

    print_table(_table(statement))


def print_some(statement: Statement, most: int) -> None:
    """Print the first rows as a table, and say it if there are more."""
    from dyno_analysis.render.terminal import print_table

    names, rows = statement.rows()
    cells = [["NULL" if value is None else value for value in row] for row in islice(rows, most + 1)]
    more = [f"There are more rows than these {most:,}: add a LIMIT, or give --output."] if len(cells) > most else []
    print_table(Table("", names, "l" * len(names), cells[:most], more))


def write_parquet(statement: Statement, output: BinaryIO) -> None:
    """Write the rows as Parquet."""
    # DuckDB writes Parquet only to a path, and the connection may write only to this temporary file.
    with temporary_folder("dyno-sql-") as folder:
        path = folder / "rows.parquet"
        path.touch()
        statement.write_parquet(path)
        with path.open("rb") as rows:
            shutil.copyfileobj(rows, output)


def write_arrow(statement: Statement, output: BinaryIO) -> None:
    """Write the rows as an Arrow IPC stream. InputError without pyarrow, which the extra `driver` has."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise InputError("--format arrow needs pyarrow: pip install 'inference-dyno[driver]'") from error
    reader = statement.arrow()
    with pa.ipc.new_stream(output, reader.schema) as stream:
        for batch in reader:
            stream.write_batch(batch)


def _table(statement: Statement) -> Table:
    names, rows = statement.rows()
    cells = [["NULL" if value is None else value for value in row] for row in rows]
    return Table("", names, "l" * len(names), cells)


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(map(markdown_cell, cells)) + " |\n"


def markdown_cell(text: str) -> str:
    """A text as a cell of a Markdown table shows it: in one line, and neither HTML nor a link nor another cell."""
    for live, shown in _MARKDOWN:
        text = text.replace(live, shown)
    return " ".join(text.split())


def _emptied(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
