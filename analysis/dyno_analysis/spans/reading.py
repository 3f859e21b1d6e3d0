"""The SQL that reads span files' rows as they are stored, each row once. Pure.

All Parquet files with the same columns are read together, by the columns of the first one. So DuckDB opens the others
only when a query reads them, and fails where one of them was emptied since the folder was listed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .columns import ATTRIBUTE_COLUMNS
from .counted import Source
from .file_names import may_have_any_time
from .journal_lines import FIRST_US, LAST_US
from .readable import EMPTIED
from .sql_text import as_glob, quoted, replaced, sql_part

# The column of a Parquet file that was emptied after its rows had moved to another one. Who listed the folder long
# before, and reads such a file, must hear of it.
MOVED_COLUMN: Final = "its_rows_moved_to_another_file_so_list_the_folder_again"

# A column with the same value in nearly every row, so it takes no time to read.
_ALWAYS_THERE: Final = "v"

_JOURNALS: Final = "'spans/*.jsonl'"
_PARQUET: Final = "'spans/*.parquet'"
_UNION: Final = ", union_by_name = true"
# A text that is no boolean stops the query. `error(…)` would do so too, but with it DuckDB pushes no filter into a view
# that looks up something for each row (request_phases, pairs), and reads all rows for one.
# As written in spans.sql. A row without a span is the torn end of a journal, or says that the journal was emptied.
_WHOLE: Final = "WHERE span_id IS NOT NULL"
_WHOLE_OR_MOVED: Final = f"""WHERE
        CASE
            WHEN span_id IS NOT NULL THEN true
            WHEN name = '{EMPTIED}' THEN CAST('{MOVED_COLUMN}: ' || filename AS BOOLEAN)
            ELSE false
        END"""


# A journal may say any number, and what is computed with them must not leave DuckDB's 64 bits: a duration or an offset
# of 30 years, or so many tokens or bytes, is none.
_MOST: Final = 10**15
_COUNTS: Final = [
    *(name for _, name, kind in ATTRIBUTE_COLUMNS if kind == "int" and name not in ("status", "repeat")),
    "duration_us",
]
_IN_BOUNDS: Final = ", ".join(
    f"CASE WHEN {name} BETWEEN {low} AND {high} THEN {name} END AS {name}"
    for name in _COUNTS
    for low, high in [(FIRST_US, LAST_US) if name == "due_at_unix_us" else (-_MOST, _MOST)]
)
_JOURNAL_COLUMNS: Final = "* EXCLUDE (started_at_us)"
_HAS_A_TIME: Final = f"(started_at_us BETWEEN {FIRST_US} AND {LAST_US} OR started_at_us IS NULL)"
_FILE_HAS_A_TIME: Final = (
    f"(started_at BETWEEN make_timestamptz({FIRST_US}) AND make_timestamptz({LAST_US}) OR started_at IS NULL)"
)


@dataclass(frozen=True)
class Reading:
    """`sql` is `WITH … stored AS (…)`. The statements `lists` must run before: they set the lists of files."""

    sql: str
    lists: str


def reading(sources: Sequence[Source], nothing: Path, name: str, *, bounded: bool = False) -> Reading:
    """How the sources' rows are read. `nothing` is an empty file, which is read if there is no journal.

    With `bounded`, a number in a journal that no request can have is unknown. This takes DuckDB some time to plan.
    The variables' names begin with `name`. Each view over the rows would otherwise have to parse thousands of paths.
    """
    journals = [source for source in sources if source.counted.file.last is None]
    groups: dict[tuple[bytes, Path | None, bool], list[Source]] = {}
    for source in sources:
        if source.counted.file.last is not None:
            # A file some of whose rows count elsewhere needs a condition of its own.
            apart = source.path if source.counted.elsewhere else None
            groups.setdefault((source.columns, apart, may_have_any_time(source.counted.file)), []).append(source)
    paths = [source.path for source in journals] or [nothing]  # so that the columns exist
    whole = [_WHOLE_OR_MOVED, _HAS_A_TIME]
    whole += [_not_elsewhere(source) for source in journals if source.counted.elsewhere]
    journal = replaced(sql_part("spans", "journal"), _JOURNALS, _list(paths))
    if bounded:
        journal = replaced(journal, _JOURNAL_COLUMNS, f"{_JOURNAL_COLUMNS} REPLACE ({_IN_BOUNDS})")
    parts = [f"WITH {replaced(journal, _WHOLE, ' AND '.join(whole))}"]
    branches = ["FROM journal"]
    lists = []
    for (_, _, any_time), of_group in groups.items():
        variable, rows = f"{name}_{len(parts)}", f"parquet_{len(parts)}"
        lists.append(f"SET VARIABLE {variable} = {_list([source.path for source in of_group])};\n")
        text = replaced(sql_part("spans", "parquet"), _UNION, "")
        text = replaced(text, _PARQUET, f"getvariable('{variable}')")
        parts.append(replaced(text, "parquet AS (", f"{rows} AS ("))
        # The condition is always true, and has each file looked at: else one that was emptied would count as 0 rows.
        conditions = [f"{_ALWAYS_THERE} IS NOT NULL"]
        if of_group[0].counted.elsewhere:
            conditions.append(_not_elsewhere(of_group[0]))
        if any_time:
            conditions.append(_FILE_HAS_A_TIME)
        branches.append(f"FROM {rows} WHERE {' AND '.join(conditions)}")
    parts.append(f"stored AS ({' UNION ALL BY NAME '.join(branches)})\n")
    return Reading("".join(parts), "".join(lists))


def _not_elsewhere(source: Source) -> str:
    """The condition that leaves out the rows for which another file counts."""
    ranges = " OR ".join(_in_range(writer, held, source) for writer, held in source.counted.elsewhere.items())
    return f"NOT (filename = {quoted(str(source.path))} AND ({ranges}))"


def _in_range(writer: str, held: Iterable[tuple[int, int]], source: Source) -> str:
    numbers = " OR ".join(f"seq BETWEEN {first} AND {last}" for first, last in held)
    # Only a file of several writers has to say for each row whose it is.
    return f"(writer = {quoted(writer)} AND ({numbers}))" if source.counted.file.is_merged else f"({numbers})"


def _list(paths: Sequence[Path]) -> str:
    return f"[{', '.join(quoted(as_glob(str(path))) for path in paths)}]"
