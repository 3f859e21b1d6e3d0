-- A row is one endpoint with the comparison table's figures. Latency, tokens and throughput are those of ok requests.
-- Warm-ups are counted, and left out otherwise. Throughput is the sum of output tokens over the sum of latencies.
WITH asked AS (
    SELECT
        *,
        NOT warmup AS is_counted,
        NOT warmup AND outcome = 'ok' AS is_ok
    FROM spans
    WHERE endpoint IS NOT NULL
),
measured AS (
    SELECT
        *,
        CASE WHEN is_ok THEN latency_s END AS ok_latency_s,
        CASE WHEN is_ok THEN input_tokens END AS ok_input_tokens,
        CASE WHEN is_ok THEN output_tokens END AS ok_output_tokens,
        CASE WHEN is_ok AND output_tokens IS NOT NULL THEN latency_s END AS generating_s
    FROM asked
)
SELECT
    endpoint,
    distinct_texts(model) AS models,
    max(simulated) AS simulated,
    CAST(count(imported_from) > 0 AS BOOLEAN) AS imported,
    count(*) FILTER (WHERE is_counted) AS requests,
    count(*) FILTER (WHERE is_ok) AS ok,
    count(*) FILTER (WHERE is_counted AND outcome = 'client_cancelled') AS cancelled,
    count(*) FILTER (WHERE is_counted AND outcome = 'rejected') AS rejected,
    count(*) FILTER (WHERE is_counted AND outcome = 'lost') AS lost,
    count(*) FILTER (WHERE warmup) AS warmups,
    count(*) FILTER (WHERE is_ok AND cut_by_length) AS cut_by_length,
    count(*) FILTER (WHERE is_ok AND streamed) AS streamed,
    count(*) FILTER (WHERE is_ok AND usage_source = 'chunks') AS counted_by_chunks,
    count(ok_output_tokens) AS with_output_tokens,
    avg(ok_latency_s) AS mean_latency_s,
    exact_median(ok_latency_s) AS median_latency_s,
    min(ok_latency_s) AS min_latency_s,
    max(ok_latency_s) AS max_latency_s,
    deviation(ok_latency_s) AS stddev_latency_s,
    sum(ok_output_tokens) / nullif(sum(generating_s), 0) AS output_tokens_per_s,
    avg(ok_output_tokens) AS mean_output_tokens,
    avg(ok_input_tokens) AS mean_input_tokens,
    sum(ok_input_tokens) AS sum_input_tokens,
    sum(ok_output_tokens) AS sum_output_tokens
FROM measured
GROUP BY endpoint
ORDER BY endpoint;
