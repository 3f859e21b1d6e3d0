-- A row is one run: all requests with its id. Warm-ups are counted apart, and left out of the other figures.
-- Failed: neither ok, nor cancelled by the client, nor rejected by the proxy.
CREATE OR REPLACE VIEW runs AS
SELECT
    run_id,
    any_value(workload) AS workload,
    min(started_at) AS started_at,
    max(coalesce(ended_at, started_at)) AS finished_at,
    coalesce(list_sort(list(DISTINCT endpoint) FILTER (WHERE endpoint IS NOT NULL)), []) AS endpoints,
    count(DISTINCT prompt_id) FILTER (WHERE NOT warmup) AS prompts,
    count(*) FILTER (WHERE NOT warmup) AS requests,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'ok') AS ok,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'client_cancelled') AS cancelled,
    count(*) FILTER (WHERE NOT warmup AND outcome = 'rejected') AS rejected,
    count(*) FILTER (WHERE NOT warmup AND failed) AS failed,
    count(*) FILTER (WHERE warmup) AS warmups,
    bool_or(simulated) AS simulated,
    any_value(imported_from) AS imported_from
FROM spans
WHERE run_id IS NOT NULL
GROUP BY run_id;
