-- A row is one endpoint: the comparison table's figures. Latency, tokens and throughput are of its ok requests;
-- warm-ups are counted and otherwise left out. Throughput is the output tokens over the time they took, both summed.
SELECT
    endpoint,
    string_agg(DISTINCT model, ', ' ORDER BY model) AS models,
    bool_or(simulated) AS simulated,
    bool_or(imported_from IS NOT NULL) AS imported,
    count(*) FILTER (WHERE NOT warmup) AS requests,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'ok') AS ok,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'client_cancelled') AS cancelled,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'rejected') AS rejected,
    count(*) FILTER (WHERE warmup) AS warmups,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'ok' AND finish_reason = 'length') AS cut_by_length,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'ok' AND streamed) AS streamed,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'ok' AND usage_source = 'chunks') AS counted_by_chunks,
    avg(latency_s) FILTER (WHERE NOT warmup AND outcome = 'ok') AS mean_latency_s,
    median(latency_s) FILTER (WHERE NOT warmup AND outcome = 'ok') AS median_latency_s,
    min(latency_s) FILTER (WHERE NOT warmup AND outcome = 'ok') AS min_latency_s,
    max(latency_s) FILTER (WHERE NOT warmup AND outcome = 'ok') AS max_latency_s,
    stddev_samp(latency_s) FILTER (WHERE NOT warmup AND outcome = 'ok') AS stddev_latency_s,
    CAST(sum(output_tokens) FILTER (WHERE NOT warmup AND outcome = 'ok') AS DOUBLE)
    / nullif(sum(latency_s) FILTER (WHERE NOT warmup AND outcome = 'ok' AND output_tokens IS NOT NULL), 0)
        AS output_tokens_per_s,
    avg(output_tokens) FILTER (WHERE NOT warmup AND outcome = 'ok') AS mean_output_tokens,
    avg(input_tokens) FILTER (WHERE NOT warmup AND outcome = 'ok') AS mean_input_tokens,
    CAST(sum(input_tokens) FILTER (WHERE NOT warmup AND outcome = 'ok') AS BIGINT) AS sum_input_tokens,
    CAST(sum(output_tokens) FILTER (WHERE NOT warmup AND outcome = 'ok') AS BIGINT) AS sum_output_tokens
FROM spans
WHERE endpoint IS NOT NULL
GROUP BY endpoint
ORDER BY endpoint;
