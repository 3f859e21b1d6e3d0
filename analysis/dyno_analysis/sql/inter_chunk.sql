-- A row is one endpoint with the gaps between the chunks of all its ok streams. A chunk is not a token. Chunks from one
-- network read have a gap of zero; the larger their share, the more the figures are the network's, not the engine's.
WITH streams AS (
    SELECT endpoint, chunk_offsets_us AS offsets_us
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND len(chunk_offsets_us) >= 2
),
gaps AS (
    SELECT endpoint, unnest(offsets_us[2:]) - unnest(offsets_us[:len(offsets_us) - 1]) AS gap_us
    FROM streams
),
-- Gaps are whole microseconds, so there are far fewer values than gaps. Exact percentiles come from each value's count.
counted AS (
    SELECT endpoint, gap_us, count(*) AS times
    FROM gaps
    GROUP BY endpoint, gap_us
),
ranked AS (
    SELECT
        *,
        sum(times) OVER (PARTITION BY endpoint ORDER BY gap_us) AS up_to,
        sum(times) OVER (PARTITION BY endpoint) AS n
    FROM counted
)
SELECT
    endpoint,
    any_value(streams) AS streams,
    CAST(any_value(n) AS BIGINT) AS n,
    sum(gap_us * times) / any_value(n) / 1e6 AS mean,
    counted_quantile(gap_us, up_to, n, 0.5) / 1e6 AS p50,
    counted_quantile(gap_us, up_to, n, 0.9) / 1e6 AS p90,
    counted_quantile(gap_us, up_to, n, 0.95) / 1e6 AS p95,
    counted_quantile(gap_us, up_to, n, 0.99) / 1e6 AS p99,
    coalesce(sum(times) FILTER (WHERE gap_us = 0), 0) / any_value(n) AS share_of_one_read
FROM ranked
INNER JOIN (SELECT endpoint, count(*) AS streams FROM streams GROUP BY endpoint) USING (endpoint)
GROUP BY endpoint
ORDER BY endpoint;
