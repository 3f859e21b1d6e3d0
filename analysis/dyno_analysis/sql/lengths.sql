-- A row is one ok request whose output was counted: a point for latency = fixed + per token. If an endpoint has more
-- than 200,000 of them, some 200,000 or fewer are picked by their ids.
WITH counted AS (
    SELECT endpoint, input_tokens, output_tokens, latency_s, started_at, span_id
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND endpoint IS NOT NULL AND output_tokens IS NOT NULL AND latency_s > 0
),
shares AS (SELECT endpoint, CAST(ceil(count(*) / 200_000) AS UBIGINT) AS one_of FROM counted GROUP BY endpoint)
SELECT
    endpoint,
    CAST(input_tokens AS DOUBLE) AS input_tokens,
    CAST(output_tokens AS DOUBLE) AS output_tokens,
    latency_s
FROM counted
INNER JOIN shares USING (endpoint)
WHERE hash(span_id) % one_of = 0
ORDER BY endpoint, started_at, span_id;
