-- A user for `dyno report --store`, who may read the spans and nothing else: clickhouse-client --queries-file reader.sql
-- Put a password of your own in place of this one.
CREATE USER IF NOT EXISTS reader IDENTIFIED WITH sha256_password BY 'put your own here' SETTINGS readonly = 2;
GRANT SELECT ON otel.otel_traces TO reader;
