"""A statement's rows as text (table, CSV, JSON, Markdown), or as Parquet or Arrow."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO

from dyno_analysis.errors import InputError
from dyno_analysis.render.table import Table, widths
from dyno_analysis.temporary import temporary_folder

from .statement import Statement


def csv_pieces(statement: Statement) -> Iterator[str]:
    """A header line, then one line per row, ended by LF; NULL is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names, rows = statement.rows()
    writer.writerow(names)
    yield _emptied(buffer)
    for row in rows:
        writer.writerow(["" if value is None else value for value in row])
        yield _emptied(buffer)


def json_pieces(statement: Statement) -> Iterator[str]:
    """An array of objects, one per line."""
    lead = "[\n"
    for row in statement.json_rows():
        yield lead + row
        lead = ",\n"
    yield "[]\n" if lead == "[\n" else "\n]\n"


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
    "json": json_pieces,
    "markdown": markdown_pieces,
}


def print_rich(statement: Statement) -> None:
    """Print the rows as a table on a terminal."""
    from dyno_analysis.render.terminal import print_table

    print_table(_table(statement))


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
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |\n"


def _emptied(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text
