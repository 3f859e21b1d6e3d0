-- A row is one endpoint with the instrument's own error on its requests: how much time the proxy added to the first
-- token and to the end, how late its event loop ran, and how late the driver of an open loop sent them.
-- 1,000 µs of lag is the error bound.
SELECT
    endpoint,
    count(overhead_us) AS n,
    exact_percentiles(overhead_us)[1] AS median_overhead_us,
    exact_median(CASE WHEN streamed THEN overhead_us END) AS median_overhead_streamed_us,
    exact_percentiles(overhead_us)[4] AS p99_overhead_us,
    max(overhead_us) AS max_overhead_us,
    exact_median(overhead_end_us) AS median_overhead_end_us,
    max(overhead_end_us) AS max_overhead_end_us,
    count(loop_lag_us) AS with_lag,
    exact_median(loop_lag_us) AS median_lag_us,
    max(loop_lag_us) AS max_lag_us,
    avg(CASE WHEN loop_lag_us > 1000 THEN 1.0 WHEN loop_lag_us IS NOT NULL THEN 0.0 END) AS share_lagging,
    exact_median(send_lag_s) AS median_send_lag_s,
    max(send_lag_s) AS max_send_lag_s
FROM spans
WHERE NOT warmup AND endpoint IS NOT NULL
GROUP BY endpoint
ORDER BY endpoint;
