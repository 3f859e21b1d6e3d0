"""The answer on one screen: at most so many lines, of which none is cut off. What is left out is counted. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dyno_analysis.controls import on_one_line
from dyno_analysis.render.layout import body
from dyno_analysis.render.table import count
from dyno_analysis.render.wrapping import width, wrapped

from .answer import Answer

MOST_LINES: Final = 20
_MOST_NOTES: Final = 3
_LABEL: Final = 8


@dataclass(frozen=True)
class End:
    """A line at the end: what it is, and a path or a command, which is broken at blanks only."""

    label: str
    text: str
    is_command: bool = False


def screen(answer: Answer, ends: Sequence[End], columns: int) -> list[tuple[str, str]]:
    """The lines with their styles. Rows and notes are left out until MOST_LINES hold the rest.

    The verdicts on latency are left out last. Before them go notes, and the empty lines between the parts.
    """
    rows = 0 if answer.table is None else len(answer.table.rows)
    needed = min(answer.needed, rows)
    made: list[tuple[str, str]] = []
    # The rows of a figure are shown together or not at all.
    for kept in [n for n in range(rows, needed - 1, -1) if n in (rows, needed) or n % max(needed, 1) == 0]:
        for notes in range(min(len(answer.notes), _MOST_NOTES), -1, -1):
            made = _made(answer, ends, columns, kept, notes)
            if len(made) <= MOST_LINES and (notes or kept == needed or not answer.notes):
                return made
    for kept in range(needed, -1, -1):
        made = _tight(answer, ends, columns, kept)
        if len(made) <= MOST_LINES:
            return made
    return made


def head(banner: Sequence[str], letters: Mapping[str, str], said: Sequence[str], columns: int) -> list[tuple[str, str]]:
    """The banner, the letters that stand for names, the answer, whose first sentence is bold."""
    lines = [("bold", line) for text in banner for line in _wrapped(text, columns)]
    lines += [("", "")] * bool(lines)
    for name, letter in letters.items():
        lines += [("", line) for line in wrapped(f"{letter}  {on_one_line(name)}", columns, "   ")]
    for number, text in enumerate(said):
        lines += [("" if number else "bold", line) for line in _wrapped(text, columns)]
    return lines


def ending(ends: Sequence[End], columns: int) -> list[tuple[str, str]]:
    """Paths and commands. A command that is longer than a line goes on after a backslash, as a shell has it."""
    lines = []
    for end in ends:
        text, room = on_one_line(end.text), columns - _LABEL - 1
        if not end.is_command or width(text) <= room:
            lines.append(f"{end.label:<{_LABEL}} {text}")
            continue
        *pieces, last = wrapped(text, room - 2, whole=True)
        pieces = [*(f"{piece} \\" for piece in pieces), last]
        lines += [f"{'' if number else end.label:<{_LABEL}} {piece}" for number, piece in enumerate(pieces)]
    return [("dim", line) for line in lines]


def _made(answer: Answer, ends: Sequence[End], columns: int, rows: int, notes: int) -> list[tuple[str, str]]:
    lines = head(answer.banner, answer.letters, answer.said, columns)
    lines += _rows(answer, columns, rows)
    told = [*answer.undecided]
    more = _more(answer, rows, len(answer.notes) - notes)
    if notes:
        told.append(" ".join(["Before quoting:", *answer.notes[:notes], *more]))
    else:
        told += more
    lines += [("", "")] * bool(told) + [("", line) for text in told for line in _wrapped(text, columns)]
    return [*lines, ("", ""), *ending(ends, columns)]


def _tight(answer: Answer, ends: Sequence[End], columns: int, rows: int) -> list[tuple[str, str]]:
    """With fewer empty lines, and with notes only counted."""
    lines = [line for line in head(answer.banner, answer.letters, answer.said, columns) if line[1]]
    lines += _rows(answer, columns, rows)
    lines += [("dim", line) for line in _more(answer, rows, len(answer.undecided) + len(answer.notes))]
    return [*lines, ("", ""), *ending(ends, columns)]


def _more(answer: Answer, rows: int, notes: int) -> list[str]:
    """A sentence on what is left out, if anything is: all rows but the first ones, and so many notes."""
    left_out = 0 if answer.table is None else len(answer.table.rows) - rows
    more = [count(n, *words) for n, words in ((left_out, ("row", "rows")), (notes, ("note", "notes"))) if n]
    return [f"In --all: {' and '.join(more)} more."] if more else []


def _rows(answer: Answer, columns: int, rows: int) -> list[tuple[str, str]]:
    """The first rows of the table after an empty line; nothing if there is no row."""
    table = answer.table
    if table is None or not rows:
        return []
    shown = replace(
        table,
        columns=[on_one_line(name) for name in table.columns],
        rows=[[on_one_line(cell) for cell in row] for row in table.rows[:rows]],
    )
    return [("", ""), *(("" if number else "dim", line) for number, line in enumerate(body(shown, columns)))]


def _wrapped(text: str, columns: int) -> list[str]:
    return wrapped(on_one_line(text), columns)
