-- A row is one moment at which a request began or ended at an endpoint. `open` is how many are under way there from then
-- on, until the endpoint's next row. All requests count, also warm-ups, failures and what was refused, for as long as they
-- took; one that took no time is never under way.
CREATE OR REPLACE VIEW concurrency AS
WITH requests AS MATERIALIZED (
    SELECT endpoint, epoch_us(started_at) AS start_us, epoch_us(ended_at) AS end_us
    FROM spans
    WHERE ended_at >= started_at
),
steps AS (
    SELECT endpoint, start_us AS at_us, 1 AS step FROM requests
    UNION ALL
    SELECT endpoint, end_us, -1 FROM requests
)
SELECT
    endpoint,
    make_timestamptz(at_us) AS changed_at,
    CAST(sum(step) OVER moments AS BIGINT) AS open
FROM steps
WINDOW moments AS (PARTITION BY endpoint ORDER BY at_us)
-- What happens in the same microsecond is one moment. The sum has all of it, in each of its rows; one is enough.
QUALIFY lead(at_us) OVER moments IS DISTINCT FROM at_us;
