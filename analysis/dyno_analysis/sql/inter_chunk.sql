-- A row is one endpoint: the gaps between the chunks of its ok streams, pooled. A chunk is not a token, and chunks that
-- shared a network read have a gap of zero: their share says how far the figures are those of the path, not the engine.
WITH gaps AS (
    SELECT
        endpoint,
        span_id,
        (unnest(chunk_offsets_us[2:]) - unnest(chunk_offsets_us[:len(chunk_offsets_us) - 1])) / 1e6 AS gap_s
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND len(chunk_offsets_us) >= 2
)
SELECT
    endpoint,
    count(DISTINCT span_id) AS streams,
    count(*) AS n,
    avg(gap_s) AS mean,
    quantile_cont(gap_s, 0.5) AS p50,
    quantile_cont(gap_s, 0.9) AS p90,
    quantile_cont(gap_s, 0.95) AS p95,
    quantile_cont(gap_s, 0.99) AS p99,
    avg(CASE WHEN gap_s = 0 THEN 1.0 ELSE 0.0 END) AS share_of_one_read
FROM gaps
GROUP BY endpoint
ORDER BY endpoint;
