-- A row is one minute of one endpoint, model and operation, as in `minutes`, also where nothing was asked: then the counts
-- are 0 and the times NULL. Minutes reach from the first with any request to the last. A pause of all endpoints that is
-- longer than 31 days isn't filled. By hand: run minutes.sql first.
CREATE OR REPLACE VIEW minutes_all AS
WITH stretches AS (
    SELECT minute, lead(minute) OVER (ORDER BY minute) AS next_minute
    FROM (
        SELECT DISTINCT date_trunc('minute', started_at) AS minute
        FROM spans
        WHERE NOT warmup AND operation IS NOT NULL
    )
),
every_minute AS (
    SELECT
        unnest(
            generate_series(
                minute,
                CASE WHEN next_minute - minute <= INTERVAL 31 DAY THEN next_minute - INTERVAL 1 MINUTE ELSE minute END,
                INTERVAL 1 MINUTE
            )
        ) AS minute
    FROM stretches
),
series AS (
    SELECT DISTINCT endpoint, model, operation FROM spans WHERE NOT warmup AND operation IS NOT NULL
)
SELECT
    every_minute.minute,
    series.endpoint,
    series.model,
    series.operation,
    coalesce(requests, 0) AS requests,
    coalesce(ok, 0) AS ok,
    coalesce(cancelled, 0) AS cancelled,
    coalesce(rejected, 0) AS rejected,
    coalesce(failed, 0) AS failed,
    CASE WHEN requests IS NULL THEN 0 ELSE input_tokens END AS input_tokens,
    CASE WHEN requests IS NULL THEN 0 ELSE output_tokens END AS output_tokens,
    latency_p50_s,
    latency_p95_s,
    ttft_p50_s,
    ttft_p95_s,
    tpot_p50_s,
    max_overhead_us,
    simulated
FROM every_minute
CROSS JOIN series
LEFT JOIN minutes
    ON minutes.minute = every_minute.minute
    AND minutes.endpoint IS NOT DISTINCT FROM series.endpoint
    AND minutes.model IS NOT DISTINCT FROM series.model
    AND minutes.operation IS NOT DISTINCT FROM series.operation;
