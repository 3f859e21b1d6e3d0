-- A row is one run, the newest first: its workload as its requests' tags say it, and what of it counts.
SELECT
    run_id,
    mode(workload) AS workload,
    list_sort(list(DISTINCT endpoint)) AS endpoints,
    count(*) FILTER (WHERE outcome = 'ok') AS ok,
    count(DISTINCT load_concurrency) AS concurrencies,
    count(DISTINCT load_rate_per_s) AS rates,
    coalesce(list_sort(list(DISTINCT endpoint) FILTER (WHERE simulated)), []) AS simulated
FROM spans
WHERE run_id IS NOT NULL AND endpoint IS NOT NULL AND NOT warmup
GROUP BY run_id
ORDER BY min(started_at) DESC, run_id DESC;
