"""The SQL that reads span files' rows as they are stored, each row once. Pure.

All Parquet files with the same columns are read together, by the columns of the first one. So DuckDB opens the others
only when a query reads them, and fails where one of them was emptied since the folder was listed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .counted import Source
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


@dataclass(frozen=True)
class Reading:
    """`sql` is `WITH … stored AS (…)`. The statements `lists` must run before: they set the lists of files."""

    sql: str
    lists: str


def reading(sources: Sequence[Source], nothing: Path, name: str) -> Reading:
    """How the sources' rows are read. `nothing` is an empty file, which is read if there is no journal.

    The variables' names begin with `name`. Each view over the rows would otherwise have to parse thousands of paths.
    """
    journals = [source for source in sources if source.counted.file.last is None]
    groups: dict[tuple[bytes, Path | None], list[Source]] = {}
    for source in sources:
        if source.counted.file.last is not None:
            # A file some of whose rows count elsewhere needs a condition of its own.
            groups.setdefault((source.columns, source.path if source.counted.elsewhere else None), []).append(source)
    paths = [source.path for source in journals] or [nothing]  # so that the columns exist
    whole = [_WHOLE_OR_MOVED, *(_not_elsewhere(source) for source in journals if source.counted.elsewhere)]
    journal = replaced(sql_part("spans", "journal"), _JOURNALS, _list(paths))
    parts = [f"WITH {replaced(journal, _WHOLE, ' AND '.join(whole))}"]
    branches = ["FROM journal"]
    lists = []
    for of_group in groups.values():
        variable, rows = f"{name}_{len(parts)}", f"parquet_{len(parts)}"
        lists.append(f"SET VARIABLE {variable} = {_list([source.path for source in of_group])};\n")
        text = replaced(sql_part("spans", "parquet"), _UNION, "")
        text = replaced(text, _PARQUET, f"getvariable('{variable}')")
        parts.append(replaced(text, "parquet AS (", f"{rows} AS ("))
        # The condition is always true, and has each file looked at: else one that was emptied would count as 0 rows.
        conditions = [f"{_ALWAYS_THERE} IS NOT NULL"]
        if of_group[0].counted.elsewhere:
            conditions.append(_not_elsewhere(of_group[0]))
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
