"""`make sql`: writes the columns of the span files into dyno_analysis, from the proxy's attributes.py.

    proxy/dyno_proxy/attributes.py ──▶ spans/columns.py            the columns of a journal's row, with their types
                                  └──▶ sql/spans.sql               how a journal is read; the view's last columns
                                           ├──▶ sql/collected_spans.sql    the same reading of spans/collected/
                                           └──▶ sql/results.sql            what a results file has beside the map

The programs don't import each other, so this script is outside of them. It writes only between a comment `begin: TITLE`
and the next comment `end`. A new attribute with a column needs `make sql` and nothing else: the view `spans` has that
column too. An attribute that had no column before gets `since`: then the view takes the values of older rows from their
map.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contract.written_blocks import with_block
from dyno_proxy.attributes import ATTRIBUTES, Attribute
from dyno_proxy.telemetry.span import COLUMNS
from rigs.journal_rows import DUCKDB_TYPES

ANALYSIS: Final = Path(__file__).parents[2] / "analysis" / "dyno_analysis"

ROW: Final = "columns of a journal's row, written by make sql"
REST: Final = "stored columns that stand nowhere above, written by make sql"
MOVED: Final = "columns whose values rows of version 1 have in the map, written by make sql"
LEFT: Final = "attributes of the map that have a column by now, written by make sql"
ALONE: Final = "columns of spans that its map doesn't have, written by make sql"
READING: Final = "how the files are read, from spans.sql, written by make sql"

# Integers that Parquet files have always held in 32 bits.
_SHORT: Final = ("v", "status", "repeat")
# Shown by the view under another name, with the same content.
_RENAMED: Final = ("due_at_unix_us",)
# The results file has the first one by itself.
_MAP_VALUES: Final = {
    "finish_reasons": "CASE WHEN len(finish_reasons) > 1 THEN CAST(to_json(finish_reasons) AS VARCHAR) END"
}


def written(attributes: Sequence[Attribute] = ATTRIBUTES) -> dict[Path, str]:
    """Each file with generated blocks, and the text that it should have. Raises ValueError if a block is missing."""
    columns, spans, collected, results = (
        ANALYSIS / name for name in ("spans/columns.py", "sql/spans.sql", "sql/collected_spans.sql", "sql/results.sql")
    )
    spans_text = spans_sql(spans.read_text(encoding="utf-8"), attributes)
    return {
        columns: with_block(columns.read_text(encoding="utf-8"), ROW, _constants(attributes)),
        spans: spans_text,
        collected: with_block(collected.read_text(encoding="utf-8"), READING, _reading(spans_text)),
        results: with_block(results.read_text(encoding="utf-8"), ALONE, _alone(spans_text, attributes)),
    }


def spans_sql(text: str, attributes: Sequence[Attribute]) -> str:
    """spans.sql with its blocks made from these attributes."""
    row = [f"{name}: '{_duckdb_type(name, kind)}'," for name, kind in _columns(attributes)]
    row[-1] = row[-1].removesuffix(",")
    text = with_block(text, ROW, row)
    moved = [a for a in attributes if a.column is not None and a.since > 1]
    text = with_block(text, MOVED, [_taken_from_map(a) for a in moved])
    text = with_block(text, LEFT, _left_map(moved))
    shown = _shown(text)
    rest = [f"{_quoted(a.column)}," for a in attributes if a.column is not None and a.column not in shown]
    return with_block(text, REST, rest)


def _columns(attributes: Sequence[Attribute]) -> list[tuple[str, str]]:
    """The row's columns: the span's own columns, those of the attributes, and the map."""
    of_attributes = {a.column for a in ATTRIBUTES}
    (*own, rest) = [(name, kind) for name, kind in COLUMNS if name not in of_attributes]
    return [*own, *((a.column, a.type) for a in attributes if a.column is not None), rest]


def _duckdb_type(name: str, kind: str) -> str:
    return "INTEGER" if name in _SHORT else DUCKDB_TYPES[kind]


def _shown(text: str) -> set[str]:
    """The columns that the view's list names by hand, before the block of those that are left."""
    derived = text[text.index("-- part: derived\n") :].partition(f"-- begin: {REST}\n")[0]
    return {*re.findall(r'^    (?:.* AS )?"?(\w+)"?,$', derived, re.MULTILINE), *_RENAMED}


def _specified(text: str) -> set[str]:
    """The columns before the map, under their own names."""
    derived = text[text.index("-- part: derived\n") :].partition(" AS attributes,\n")[0]
    return {*re.findall(r"^    (?:.* AS )?(\w+),$", derived, re.MULTILINE), *_RENAMED}


def _alone(spans_text: str, attributes: Sequence[Attribute]) -> list[str]:
    """The entries of a results file's attributes that the view has in columns alone, behind the map."""
    known = _specified(spans_text)
    entries = [
        _entry(a.name, _quoted(a.column), a.type) for a in attributes if a.column is not None and a.column not in known
    ]
    entries[-1] = entries[-1].removesuffix(",")
    return [line for entry in entries for line in entry.splitlines()]


def _taken_from_map(attribute: Attribute) -> str:
    """The column with older rows' values."""
    column = _quoted(attribute.column)
    text = f"attributes['{attribute.name}']"
    kind = DUCKDB_TYPES[attribute.type]
    value = text if attribute.type == "string" else f"TRY_CAST({text} AS {kind})"
    return f"coalesce({column}, {value}) AS {column},"


def _left_map(moved: Sequence[Attribute]) -> list[str]:
    """Which entries of older rows' maps the view shows in columns: what doesn't fit its column stays in the map."""
    lines = []
    for kind in dict.fromkeys(a.type for a in moved):
        names = [f"    '{a.name}'," for a in moved if a.type == kind]
        names[-1] = names[-1].removesuffix(",")
        stays = "false" if kind == "string" else f"TRY_CAST(entry.value AS {DUCKDB_TYPES[kind]}) IS NULL"
        lines += ["WHEN entry.key IN (", *names, f") THEN {stays}"]
    return lines


def _quoted(column: str | None) -> str:
    return '"user"' if column == "user" else column or ""  # a keyword of SQL


def _entry(name: str, column: str, kind: str) -> str:
    """The map's entry for a stored column."""
    if column in _MAP_VALUES:
        return f"{{\n    'k': '{name}',\n    'v': {_MAP_VALUES[column]}\n}},"
    value = column if kind == "string" else f"CAST({column} AS VARCHAR)"
    if kind.endswith("[]"):
        value = f"CAST(to_json({column}) AS VARCHAR)"
    return f"{{'k': '{name}', 'v': {value}}},"


def _constants(attributes: Sequence[Attribute]) -> list[str]:
    """columns.py's constants."""
    of_attributes = {a.column for a in attributes}
    return [
        "# The columns of a row that don't come from an attribute, with their types. The map is a row's last column.",
        "OWN_COLUMNS: Final = (",
        *(f'    ("{name}", "{kind}"),' for name, kind in _columns(attributes) if name not in of_attributes),
        ")",
        "# An attribute, its column and the column's type, in the order of the columns.",
        "ATTRIBUTE_COLUMNS: Final = (",
        *(f'    ("{a.name}", "{a.column}", "{a.type}"),' for a in attributes if a.column is not None),
        ")",
    ]


def _reading(spans_text: str) -> list[str]:
    """The part of spans.sql that reads the rows as they are stored, for the folder of collected spans."""
    start, end = spans_text.index("-- part: counting\n"), spans_text.index("-- part: derived\n")
    if spans_text.count("'spans/", start, end) != 4:
        raise ValueError("spans.sql doesn't name its folder four times")
    reading = spans_text[start:end].replace("'spans/", "'spans/collected/").splitlines()
    # The inner block is spans.sql's: here there is one around it.
    return [line for line in reading if not re.fullmatch(r" *-- (begin: .*|end)", line)]


def main() -> None:
    """Write each file that is out of date, and print its name."""
    for path, text in written().items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
