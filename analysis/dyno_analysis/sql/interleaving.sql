-- A row is one run (NULL: traffic outside of runs) and the order in which its endpoints were asked. With k endpoints,
-- k - 1 changes mean that each endpoint was asked wholly after the one before. If all requests have the same start,
-- their starts aren't known.
WITH ordered AS (
    SELECT
        run_id,
        endpoint,
        started_at,
        prompt_id,
        repeat,
        lag(endpoint) OVER (PARTITION BY run_id ORDER BY started_at, span_id) AS before
    FROM spans
    WHERE NOT warmup AND endpoint IS NOT NULL
)
SELECT
    run_id,
    count(*) AS requests,
    count(DISTINCT endpoint) AS endpoints,
    count(DISTINCT started_at) AS starts,
    count(*) FILTER (WHERE before <> endpoint) AS changes,
    count(DISTINCT prompt_id) AS prompts,
    count(DISTINCT repeat) AS repeats
FROM ordered
GROUP BY run_id
ORDER BY run_id;
