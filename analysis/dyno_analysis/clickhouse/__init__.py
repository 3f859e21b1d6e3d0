"""The report over spans that a Collector stored in ClickHouse."""
