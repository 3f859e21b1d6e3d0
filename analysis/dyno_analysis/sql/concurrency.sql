-- A row is one moment at which a request began or ended at an endpoint. `open` is how many are under way there from then
-- on, until the endpoint's next row. All requests count: warm-ups, failures and what was refused, for as long as they took.
-- A request that took no time isn't under way in any.
-- Each hour is counted by itself, beginning with what was under way at its start, so that a question about some minutes
-- needn't count from the first day on.
CREATE OR REPLACE VIEW concurrency AS
WITH moments AS (
    SELECT endpoint, started_at AS changed_at FROM spans WHERE ended_at >= started_at
    UNION
    SELECT endpoint, ended_at FROM spans WHERE ended_at >= started_at
),
hours AS (SELECT *, epoch_us(changed_at) // 3_600_000_000 AS hour FROM moments)
SELECT moment.endpoint, moment.changed_at, counted.open
FROM hours AS moment
INNER JOIN LATERAL (FROM open_in_hour(moment.endpoint, moment.hour)) AS counted ON counted.changed_at = moment.changed_at;
