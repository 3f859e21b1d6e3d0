-- A row is one stretch of time in which no request was under way at an endpoint, between two of its requests.
CREATE OR REPLACE VIEW gaps AS
SELECT
    endpoint,
    changed_at AS began_at,
    next_at AS ended_at,
    (epoch_us(next_at) - epoch_us(changed_at)) / 1e6 AS gap_s
FROM (FROM concurrency SELECT *, lead(changed_at) OVER (PARTITION BY endpoint ORDER BY changed_at) AS next_at)
WHERE open = 0 AND next_at IS NOT NULL;
