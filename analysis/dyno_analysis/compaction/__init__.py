"""Turns journals into Parquet, joins small files, and deletes old spans."""
