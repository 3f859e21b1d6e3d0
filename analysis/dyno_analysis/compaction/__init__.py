"""Journals become Parquet, small files become large ones, and old rows are thrown away."""
