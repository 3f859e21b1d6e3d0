-- A row is one ok request whose output was counted: the points of latency = fixed + per token.
SELECT
    endpoint,
    CAST(input_tokens AS DOUBLE) AS input_tokens,
    CAST(output_tokens AS DOUBLE) AS output_tokens,
    latency_s
FROM spans
WHERE NOT warmup AND outcome = 'ok' AND endpoint IS NOT NULL AND output_tokens IS NOT NULL AND latency_s > 0
ORDER BY endpoint, started_at, span_id;
