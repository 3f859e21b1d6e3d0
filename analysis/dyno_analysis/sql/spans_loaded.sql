-- A row is one request of `spans`, with all its columns and `under_way`: how many requests were under way at its
-- endpoint when it began, itself included; NULL if its end isn't known. concurrency.sql says which requests count.
CREATE OR REPLACE VIEW spans_loaded AS
WITH steps AS (
    SELECT
        *,
        true AS is_start,
        epoch_us(started_at) AS at_us,
        CASE WHEN ended_at >= started_at THEN 1 ELSE 0 END AS step
    FROM spans
    UNION ALL BY NAME
    SELECT endpoint, false AS is_start, epoch_us(ended_at) AS at_us, -1 AS step
    FROM spans
    WHERE ended_at >= started_at
)
SELECT
    * EXCLUDE (is_start, at_us, step),
    CASE WHEN step = 1 THEN CAST(sum(step) OVER (PARTITION BY endpoint ORDER BY at_us) AS BIGINT) END AS under_way
FROM steps
QUALIFY is_start;
