-- A row is one request of a batch: requests that count and were submitted all at once (workload `offline`). A batch of an
-- endpoint lasts as long as one of its requests is under way. Times are seconds from its begin on.
WITH sent AS (
    SELECT
        run_id,
        endpoint,
        started_at AS begins,
        ended_at AS ends,
        outcome = 'ok' AS is_ok,
        output_tokens
    FROM spans
    WHERE
        NOT warmup
        AND endpoint IS NOT NULL
        AND ended_at IS NOT NULL
        AND workload = 'offline'
        AND outcome NOT IN ('client_cancelled', 'rejected')
),
marked AS (
    SELECT
        *,
        begins > max(ends) OVER (
            PARTITION BY run_id, endpoint ORDER BY begins, ends ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS opens
    FROM sent
),
numbered AS (
    SELECT
        *,
        count(*) FILTER (WHERE opens) OVER (
            PARTITION BY run_id, endpoint ORDER BY begins, ends ROWS UNBOUNDED PRECEDING
        ) AS batch
    FROM marked
)
SELECT
    endpoint,
    coalesce(run_id, '') || ' ' || CAST(batch AS VARCHAR) AS batch,
    is_ok,
    (epoch_us(ends) - epoch_us(min(begins) OVER (PARTITION BY run_id, endpoint, batch))) / 1e6 AS ends_s,
    CAST(CASE WHEN is_ok THEN output_tokens END AS DOUBLE) AS output_tokens
FROM numbered
ORDER BY endpoint, run_id, batch, ends_s;
