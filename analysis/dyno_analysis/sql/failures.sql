-- A row is one way in which an endpoint's requests ended other than ok, and how often; warm-ups are left out.
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
