"""Lays a table out in so many columns. Pure.

Nothing is cut off. A table that is too wide has its names and texts wrapped; if that isn't enough, its columns are
set in several parts, one below the other, which all begin with the columns of labels; and if even that isn't
possible, each row is set as lines `name  value`.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, Literal

from .table import Table, widths
from .wrapping import padded, width, wrapped

Part = Literal["title", "body", "note"]

_BETWEEN: Final = 2  # blanks between two columns
_WORD: Final = 26  # a longer word may be broken; a run's id isn't
_FIGURE: Final = 16  # a longer figure may be broken at a blank
_TALLEST: Final = 8  # lines; a row with a taller cell is set as lines


def laid_out(table: Table, columns: int) -> list[tuple[Part, str]]:
    """The table's lines: title, columns two blanks apart, notes. Each line says what it is a part of."""
    title = wrapped(table.title, columns) if table.title else []
    lines: list[tuple[Part, str]] = [("title", line) for line in title]
    if title:
        lines.append(("body", "-" * max(map(width, title))))
    lines += [("body", line) for line in body(table, columns)]
    return lines + [("note", line) for note in table.lines_beneath for line in wrapped(note, columns, "  ")]


def body(table: Table, columns: int) -> list[str]:
    """The lines of names and rows."""
    natural = widths(table)
    if _total(natural) <= columns:
        return _block(table, range(len(natural)), natural)
    least = [_least(cells, side) for cells, side in zip(_cells(table), table.align, strict=True)]
    lines: list[str] = []
    for part in _parts(table, least, columns):
        fitted = _fitted(table, part, natural, least, columns)
        if any(len(wrapped(table.rows[n][j], fitted[k])) > _TALLEST for n in _long(table) for k, j in enumerate(part)):
            lines = []
            break
        lines += [""] * bool(lines) + _block(table, part, fitted)
    return lines or _records(table, columns)


def _parts(table: Table, least: Sequence[int], columns: int) -> list[list[int]]:
    """The table's columns in parts that fit, each with the columns of labels; none if there is no such way."""
    labels = len(table.align) - len(table.align.lstrip("l"))
    keys, others = list(range(labels)), range(labels, len(least))
    parts: list[list[int]] = []
    if not keys or not others:
        return []
    for each in others:
        if parts and _total([least[j] for j in (*parts[-1], each)]) <= columns:
            parts[-1].append(each)
        elif _total([least[j] for j in (*keys, each)]) <= columns:
            parts.append([*keys, each])
        else:
            return []
    return parts


def _fitted(table: Table, part: Sequence[int], natural: Sequence[int], least: Sequence[int], columns: int) -> list[int]:
    """How wide each column of the part is. Long names of columns give way first, then the widest column."""
    found = [min(natural[j], columns) for j in part]
    of_cells = [max((width(row[j]) for row in table.rows), default=0) for j in part]
    for floors in ([max(c, least[j]) for c, j in zip(of_cells, part, strict=True)], [least[j] for j in part]):
        while _total(found) > columns:
            spare = [wide - floor for wide, floor in zip(found, floors, strict=True)]
            if max(spare) <= 0:
                break
            widest = max((k for k in range(len(found)) if spare[k] > 0), key=lambda k: found[k])
            found[widest] -= 1
    return found


def _block(table: Table, part: Sequence[int], fitted: Sequence[int]) -> list[str]:
    lines = []
    for row in (table.columns, *table.rows):
        cells = [wrapped(row[j], wide) for j, wide in zip(part, fitted, strict=True)]
        tallest = max(map(len, cells))
        if row is table.columns:  # names stand right above their cells
            cells = [[""] * (tallest - len(cell)) + cell for cell in cells]
        for pieces in zip_longest(*cells, fillvalue=""):
            texts = (padded(piece, wide, table.align[j]) for piece, j, wide in zip(pieces, part, fitted, strict=True))
            lines.append((" " * _BETWEEN).join(texts).rstrip())
    return lines


def _records(table: Table, columns: int) -> list[str]:
    if not table.rows:
        return wrapped((" " * _BETWEEN).join(table.columns), columns)
    lines: list[str] = []
    names = max((width(name) for name in table.columns), default=0)
    beside = names + 2 <= columns // 2
    for row in table.rows:
        lines += [""] * bool(lines)
        for name, cell in zip(table.columns, row, strict=True):
            if not name:
                lines += wrapped(cell, columns)
            elif beside:
                lines += wrapped(f"{padded(name, names, 'l')}  {cell}", columns, " " * (names + 2))
            else:
                lines += [*wrapped(name, columns), *(f"  {line}" for line in wrapped(cell, columns - 2))]
    return lines


def _least(cells: Sequence[str], align: str) -> int:
    """How narrow a column may be: no shorter word of it is broken, and no short figure with its unit."""
    pieces = [piece for name in cells[:1] for piece in name.split(" ")]
    for cell in cells[1:]:
        pieces += [cell] if align == "r" and width(cell) <= _FIGURE else cell.split(" ")
    return max(1, min(max(map(width, pieces)), _WORD))


def _long(table: Table) -> list[int]:
    """The rows that may have a tall cell."""
    return [n for n, row in enumerate(table.rows) if any(len(cell) > _TALLEST for cell in row)]


def _cells(table: Table) -> list[tuple[str, ...]]:
    return list(zip(table.columns, *table.rows, strict=True))


def _total(wide: Sequence[int]) -> int:
    return sum(wide) + _BETWEEN * (len(wide) - 1)
