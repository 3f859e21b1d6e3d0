-- A row is one endpoint with its list prices, in the currency of whoever wrote them into dyno.toml, and its power. They are
-- those of the newest run that was told a price; a run of the driver writes what the proxy says into its run.json.
-- In a DuckDB of your own: put your folder in place of 'spans' below, once, and paste the whole file.

-- part: view
CREATE OR REPLACE VIEW prices AS
WITH files AS (
    SELECT CAST(NULL AS BLOB) AS content WHERE false
-- part: files
    UNION ALL BY NAME
    FROM read_blob('spans/runs/*/run.json') SELECT content
-- part: rows
),
told AS (
    -- A file that isn't JSON says nothing.
    SELECT TRY_CAST(TRY(decode(content)) AS JSON) AS run
    FROM files
),
entries AS (
    SELECT
        run ->> 'run_id' AS run_id,
        TRY_CAST(run ->> 'started_at' AS TIMESTAMPTZ) AS told_at,
        unnest(map_entries(TRY_CAST(run -> 'endpoints' AS MAP(VARCHAR, JSON)))) AS entry
    FROM told
)
SELECT
    entry.key AS endpoint,
    TRY_CAST(entry.value -> 'price' ->> 'input_per_million' AS DOUBLE) AS input_per_million,
    TRY_CAST(entry.value -> 'price' ->> 'output_per_million' AS DOUBLE) AS output_per_million,
    TRY_CAST(entry.value ->> 'power_w' AS DOUBLE) AS power_w,
    run_id,
    told_at
FROM entries
WHERE coalesce(input_per_million, output_per_million) IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY endpoint ORDER BY told_at DESC NULLS LAST, run_id DESC) = 1;
