-- A row is one workload of one run, as its requests' tags say it, the newest first: what of it counts.
SELECT
    run_id,
    workload,
    list_sort(list(DISTINCT endpoint)) AS endpoints,
    count(*) FILTER (WHERE outcome = 'ok') AS ok,
    count(DISTINCT load_concurrency) AS concurrencies,
    count(DISTINCT load_rate_per_s) AS rates,
    coalesce(list_sort(list(DISTINCT endpoint) FILTER (WHERE simulated)), []) AS simulated
FROM spans
WHERE run_id IS NOT NULL AND endpoint IS NOT NULL AND NOT warmup
GROUP BY run_id, workload
ORDER BY min(started_at) DESC, run_id DESC, workload;
