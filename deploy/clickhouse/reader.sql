-- Creates a user for `dyno report --store` who may only read the spans: clickhouse-client --queries-file reader.sql
-- Replace the password with your own.
CREATE USER IF NOT EXISTS reader IDENTIFIED WITH sha256_password BY 'put your own here' SETTINGS readonly = 2;
GRANT SELECT ON otel.otel_traces TO reader;
