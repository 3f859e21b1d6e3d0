"""The same report from ClickHouse."""
