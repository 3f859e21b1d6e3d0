-- A row is one endpoint: what its servers themselves said of their times, as medians over ok requests that count.
SELECT
    endpoint,
    count(*) AS ok,
    count(coalesce(server_queue_s, server_ttft_s, server_latency_s)) AS told,
    median(server_queue_s) AS queue_s,
    median(server_ttft_s) AS ttft_s,
    median(server_latency_s) AS latency_s
FROM spans
WHERE NOT warmup AND outcome = 'ok' AND endpoint IS NOT NULL
GROUP BY endpoint
ORDER BY endpoint;
