-- A row is one request of `spans`, with all its columns and `under_way`: how many requests were under way at its
-- endpoint when it began, itself included. concurrency.sql says which requests count, and why hours are counted apart.
CREATE OR REPLACE VIEW spans_loaded AS
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
)
SELECT request.* EXCLUDE (hour), counted.open AS under_way
FROM (FROM every_span SELECT *, epoch_us(started_at) // 3_600_000_000 AS hour) AS request
LEFT JOIN LATERAL (
    WITH wanted AS (SELECT request.endpoint AS name, request.hour AS number),
    changes AS (
        SELECT name, number, at_us, sum(step) AS step
        FROM wanted
        INNER JOIN begun ON begun.endpoint IS NOT DISTINCT FROM name AND begun.hour = number
        GROUP BY name, number, at_us
    )
    SELECT at_us, CAST(sum(step) OVER (PARTITION BY name, number ORDER BY at_us) AS BIGINT) AS open
    FROM changes
) AS counted ON counted.at_us = epoch_us(request.started_at);
