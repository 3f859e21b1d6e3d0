"""Tables, statistics and SQL over span files. This package depends on neither the proxy nor the driver."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def connect(spans: str | Path = "spans") -> "duckdb.DuckDBPyConnection":
    """A DuckDB in memory for a notebook, with `spans` and the other views of docs/sql.md over the folder's files.

    The files are listed once: connect again to see later ones. A query over files that a compaction has emptied since
    raises duckdb.Error. Dyno's views only read them; you may do anything else
    with the connection. Raises dyno_analysis.errors.InputError if the folder doesn't exist or can't be read.
    """
    # Imported here, so that `import dyno_analysis` doesn't load DuckDB.
    from .spans.folder import be_careful
    from .spans.views import connect_views, list_files

    folder = Path(spans)
    be_careful()  # nobody runs a notebook's query again
    return connect_views(folder, list_files(folder))
