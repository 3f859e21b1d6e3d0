-- A row is one answer of one run, as the driver or `dyno import` kept it: one row a request, warm-ups and failures too.
-- `trace_id` and `endpoint` name the request in `spans`. The times are the client's own.
-- In a DuckDB of your own: put your folder in place of 'spans' below, once, and paste the whole file.

-- part: view
CREATE OR REPLACE VIEW answers AS
WITH stored AS (
    SELECT
        CAST(NULL AS VARCHAR) AS filename,
        CAST(NULL AS VARCHAR) AS trace_id,
        CAST(NULL AS VARCHAR) AS endpoint,
        CAST(NULL AS VARCHAR) AS prompt_id,
        CAST(NULL AS INTEGER) AS repeat,
        CAST(NULL AS BOOLEAN) AS warmup,
        CAST(NULL AS VARCHAR) AS answer,
        CAST(NULL AS VARCHAR) AS reasoning,
        CAST(NULL AS VARCHAR) AS finish_reason,
        CAST(NULL AS VARCHAR) AS error,
        CAST(NULL AS INTEGER) AS status,
        CAST(NULL AS DOUBLE) AS client_ttft_s,
        CAST(NULL AS DOUBLE) AS client_latency_s,
        CAST(NULL AS BIGINT) AS sent_at_us
    WHERE false
-- part: files
    UNION ALL BY NAME
    FROM read_parquet('spans/runs/*/answers.parquet', filename = true, union_by_name = true)
-- part: rows
)
SELECT
    regexp_extract(filename, '([^/]+)/[^/]+$', 1) AS run_id,
    trace_id,
    endpoint,
    prompt_id,
    repeat,
    coalesce(warmup, false) AS warmup,
    answer,
    reasoning,
    finish_reason,
    error,
    status,
    client_ttft_s,
    client_latency_s,
    TRY(make_timestamptz(sent_at_us)) AS sent_at
FROM stored;
