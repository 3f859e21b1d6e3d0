-- A row is one figure of one endpoint, over its ok requests without warm-ups: how many have it, its mean, and exact
-- percentiles (interpolated between the two nearest values). `latency_adjusted_s` counts each failure as infinite. Its
-- percentiles are the values at or above the rank, since a number and infinity can't be interpolated.
WITH asked AS (
    SELECT *, outcome = 'ok' AS is_ok
    FROM spans
    WHERE NOT warmup AND endpoint IS NOT NULL AND outcome NOT IN ('client_cancelled', 'rejected')
),
measured AS (
    SELECT
        endpoint,
        CASE WHEN is_ok THEN latency_s END AS ok_latency_s,
        CASE WHEN is_ok THEN ttfb_s END AS ok_ttfb_s,
        CASE WHEN is_ok THEN ttft_s END AS ok_ttft_s,
        CASE WHEN is_ok THEN ttfa_s END AS ok_ttfa_s,
        CASE WHEN is_ok THEN tpot_s END AS ok_tpot_s,
        CASE WHEN is_ok THEN output_tokens / nullif(latency_s, 0) END AS ok_tokens_per_s,
        CASE WHEN is_ok THEN input_tokens END AS ok_input_tokens,
        CASE WHEN is_ok THEN output_tokens END AS ok_output_tokens,
        CASE WHEN is_ok THEN latency_s ELSE CAST('inf' AS DOUBLE) END AS adjusted_s
    FROM asked
),
-- This takes one pass over the spans, and one column at a time in memory. Figures as rows would be eight times as many.
known AS (
    SELECT
        endpoint,
        [
            count(ok_latency_s), count(ok_ttfb_s), count(ok_ttft_s), count(ok_ttfa_s), count(ok_tpot_s),
            count(ok_tokens_per_s), count(ok_input_tokens), count(ok_output_tokens), count(adjusted_s)
        ] AS counts,
        [
            avg(ok_latency_s), avg(ok_ttfb_s), avg(ok_ttft_s), avg(ok_ttfa_s), avg(ok_tpot_s),
            avg(ok_tokens_per_s), avg(ok_input_tokens), avg(ok_output_tokens), NULL
        ] AS means,
        [
            exact_percentiles(ok_latency_s), exact_percentiles(ok_ttfb_s), exact_percentiles(ok_ttft_s),
            exact_percentiles(ok_ttfa_s), exact_percentiles(ok_tpot_s), exact_percentiles(ok_tokens_per_s),
            exact_percentiles(ok_input_tokens), exact_percentiles(ok_output_tokens), ranked_percentiles(adjusted_s)
        ] AS percentiles
    FROM measured
    GROUP BY endpoint
),
numbered AS (SELECT *, each_of(range(1, 10)) AS i FROM known)
SELECT
    endpoint,
    [
        'latency_s', 'ttfb_s', 'ttft_s', 'ttfa_s', 'tpot_s',
        'output_tokens_per_s', 'input_tokens', 'output_tokens', 'latency_adjusted_s'
    ][i] AS figure,
    counts[i] AS n,
    means[i] AS mean,
    percentiles[i][1] AS p50,
    percentiles[i][2] AS p90,
    percentiles[i][3] AS p95,
    percentiles[i][4] AS p99
FROM numbered
WHERE counts[i] > 0
ORDER BY figure, endpoint;
