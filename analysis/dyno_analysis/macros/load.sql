-- A row is one moment of an hour at which a request began or ended at an endpoint, and how many are under way there from
-- then on. `hour_number` counts hours since 1970. The views `concurrency` and `spans_loaded` ask for the hours that they
-- need. In a DuckDB of your own: paste spans.sql first.
CREATE OR REPLACE MACRO open_in_hour(endpoint_name, hour_number) AS TABLE
WITH wanted AS (SELECT endpoint_name AS name, hour_number AS number),
requests AS (
    SELECT
        endpoint,
        epoch_us(started_at) AS start_us,
        epoch_us(ended_at) AS end_us
    FROM spans
    WHERE ended_at >= started_at
),
begun AS (
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
    SELECT name, number, at_us, sum(step) AS step
    FROM wanted
    INNER JOIN begun ON endpoint IS NOT DISTINCT FROM name AND hour = number
    GROUP BY name, number, at_us
)
SELECT
    make_timestamptz(at_us) AS changed_at,
    CAST(sum(step) OVER (PARTITION BY name, number ORDER BY at_us) AS BIGINT) AS open
FROM moments;
