-- A row is one way other than ok in which an endpoint's requests ended, and how often. Warm-ups are left out.
SELECT
    endpoint,
    outcome,
    error_type,
    status,
    count(*) AS n
FROM spans
WHERE NOT warmup AND outcome <> 'ok'
GROUP BY endpoint, outcome, error_type, status
ORDER BY endpoint, n DESC, outcome, error_type, status;
