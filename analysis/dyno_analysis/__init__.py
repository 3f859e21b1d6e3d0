"""Tables, statistics and SQL over span files; depends on neither the proxy nor the driver."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def connect(spans: str | Path = "spans") -> "duckdb.DuckDBPyConnection":
    """A DuckDB in memory for a notebook, with `spans` and the other views of docs/sql.md over the folder's files.

    The files are listed once: connect again to see later ones. Nothing writes to them; the connection is yours
    otherwise. Raises dyno_analysis.errors.InputError for a folder that isn't there.
    """
    # DuckDB loads only when it is asked for.
    from .spans.views import connect_views, list_files

    folder = Path(spans)
    return connect_views(folder, list_files(folder))
