-- A row is one figure of one endpoint, over its ok requests without warm-ups: how many know it, its mean, and exact
-- percentiles (interpolated between the two nearest values). `latency_adjusted_s` counts each failure as infinite and
-- takes the value at or above the rank instead, since nothing lies between a number and infinity.
WITH measured AS (
    SELECT
        *,
        outcome = 'ok' AS is_ok,
        output_tokens / nullif(latency_s, 0) AS output_tokens_per_s
    FROM spans
    WHERE NOT warmup AND endpoint IS NOT NULL AND outcome NOT IN ('client_cancelled', 'rejected')
),
known AS (
    UNPIVOT (
        SELECT
            endpoint,
            latency_s,
            ttfb_s,
            ttft_s,
            ttfa_s,
            tpot_s,
            output_tokens_per_s,
            CAST(input_tokens AS DOUBLE) AS input_tokens,
            CAST(output_tokens AS DOUBLE) AS output_tokens
        FROM measured
        WHERE is_ok
    )
    ON latency_s, ttfb_s, ttft_s, ttfa_s, tpot_s, output_tokens_per_s, input_tokens, output_tokens
    INTO NAME figure VALUE value
)
SELECT
    endpoint,
    figure,
    count(*) AS n,
    avg(value) AS mean,
    quantile_cont(value, 0.5) AS p50,
    quantile_cont(value, 0.9) AS p90,
    quantile_cont(value, 0.95) AS p95,
    quantile_cont(value, 0.99) AS p99
FROM known
GROUP BY endpoint, figure
UNION ALL
SELECT
    endpoint,
    'latency_adjusted_s' AS figure,
    count(*) AS n,
    NULL AS mean,
    quantile_disc(adjusted_s, 0.5) AS p50,
    quantile_disc(adjusted_s, 0.9) AS p90,
    quantile_disc(adjusted_s, 0.95) AS p95,
    quantile_disc(adjusted_s, 0.99) AS p99
FROM (SELECT endpoint, CASE WHEN is_ok THEN latency_s ELSE 'infinity'::DOUBLE END AS adjusted_s FROM measured)
GROUP BY endpoint
ORDER BY figure, endpoint;
