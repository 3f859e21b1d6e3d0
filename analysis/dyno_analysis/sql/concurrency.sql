-- A row is one moment at which a request began or ended at an endpoint. `open` is how many are under way there from
-- then on, until the endpoint's next row. All requests count, also warm-ups, failures and what was refused, for as long
-- as they took; one that took no time is never under way.
-- Each hour is counted by itself, beginning with what was under way at its start, so that a question about some minutes
-- needn't count from the first day on.
CREATE OR REPLACE VIEW concurrency AS
WITH every_span AS NOT MATERIALIZED (FROM spans),
requests AS NOT MATERIALIZED (
    SELECT endpoint, epoch_us(started_at) AS start_us, epoch_us(ended_at) AS end_us
    FROM every_span
    WHERE ended_at >= started_at
),
begun AS NOT MATERIALIZED (
    -- What changes how many are under way, by the hour in which it does.
    SELECT endpoint, start_us // 3_600_000_000 AS hour, start_us AS at_us, 1 AS step FROM requests
    UNION ALL
    SELECT endpoint, end_us // 3_600_000_000, end_us, -1
    FROM requests
    WHERE end_us // 3_600_000_000 <= start_us // 3_600_000_000 + 744
    UNION ALL
    -- Those that last into further hours are there already when such an hour begins. After 31 days none is believed.
    SELECT endpoint, hour, hour * 3_600_000_000 - 1, 1
    FROM (
        SELECT
            endpoint,
            unnest(
                generate_series(
                    start_us // 3_600_000_000 + 1,
                    least(end_us // 3_600_000_000, start_us // 3_600_000_000 + 744)
                )
            ) AS hour
        FROM requests
        WHERE end_us // 3_600_000_000 > start_us // 3_600_000_000
    )
),
moments AS (
    SELECT endpoint, start_us AS at_us FROM requests
    UNION
    SELECT endpoint, end_us FROM requests
),
hours AS (SELECT *, at_us // 3_600_000_000 AS hour FROM moments)
SELECT moment.endpoint, make_timestamptz(moment.at_us) AS changed_at, counted.open
FROM hours AS moment
INNER JOIN LATERAL (
    WITH wanted AS (SELECT moment.endpoint AS name, moment.hour AS number),
    changes AS (
        SELECT name, number, at_us, sum(step) AS step
        FROM wanted
        INNER JOIN begun ON begun.endpoint IS NOT DISTINCT FROM name AND begun.hour = number
        GROUP BY name, number, at_us
    )
    SELECT at_us, CAST(sum(step) OVER (PARTITION BY name, number ORDER BY at_us) AS BIGINT) AS open
    FROM changes
) AS counted ON counted.at_us = moment.at_us;
