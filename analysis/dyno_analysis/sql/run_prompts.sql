-- A row is one prompt of one run, as the driver or `dyno import` kept it.
-- In a DuckDB of your own: put your folder in place of 'spans' below, once, and paste the whole file.

-- part: view
CREATE OR REPLACE VIEW prompts AS
WITH stored AS (
    SELECT
        CAST(NULL AS VARCHAR) AS filename,
        CAST(NULL AS VARCHAR) AS prompt_id,
        CAST(NULL AS VARCHAR) AS title,
        CAST(NULL AS VARCHAR) AS domain,
        CAST(NULL AS VARCHAR) AS context,
        CAST(NULL AS VARCHAR) AS question,
        CAST(NULL AS VARCHAR) AS prompt,
        CAST(NULL AS VARCHAR[]) AS reference_answers,
        CAST(NULL AS BIGINT) AS tokens,
        CAST(NULL AS VARCHAR) AS conversation,
        CAST(NULL AS INTEGER) AS turn
    WHERE false
-- part: files
    UNION ALL BY NAME
    FROM read_parquet('spans/runs/*/prompts.parquet', filename = true, union_by_name = true)
-- part: rows
)
SELECT
    regexp_extract(filename, '([^/]+)/[^/]+$', 1) AS run_id,
    prompt_id,
    title,
    domain,
    context,
    question,
    prompt,
    reference_answers,
    tokens,
    conversation,
    turn
FROM stored;
