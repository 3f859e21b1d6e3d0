"""A folder of span files as DuckDB views."""
