-- A row is one mirror: an endpoint whose requests were sent again to another one, and how both sides ended. Warm-ups
-- are left out. An endpoint is NULL if that side isn't among these spans. `requests` counts the endpoint's requests
-- without the copies that it got and those that the proxy rejected or lost.
-- Needs the view `traffic`: all spans that the report is about.
WITH marked AS MATERIALIZED (
    SELECT
        endpoint,
        outcome = 'ok' AS is_ok,
        mirror,
        coalesce(mirror_trace_id, trace_id) AS original_trace_id,
        coalesce(mirror_span_id, span_id) AS original_span_id
    FROM traffic
    WHERE NOT warmup AND endpoint IS NOT NULL AND mirror IS NOT NULL
),
asked AS (
    SELECT endpoint, count(*) - coalesce(any_value(copies), 0) AS requests
    FROM traffic
    LEFT JOIN (SELECT endpoint, count(*) AS copies FROM marked WHERE mirror = 'copy' GROUP BY endpoint) USING (endpoint)
    WHERE NOT warmup AND endpoint IS NOT NULL AND outcome NOT IN ('rejected', 'lost')
    GROUP BY endpoint
),
sides AS (
    SELECT
        original.endpoint,
        copy.endpoint AS copied_to,
        coalesce(original.is_ok, false) AS original_ok,
        coalesce(copy.is_ok, false) AS copy_ok
    FROM (SELECT * FROM marked WHERE mirror = 'original') AS original
    FULL OUTER JOIN (SELECT * FROM marked WHERE mirror = 'copy') AS copy
        USING (original_trace_id, original_span_id)
)
SELECT
    sides.endpoint,
    copied_to,
    any_value(requests) AS requests,
    count(*) AS mirrored,
    count(*) FILTER (WHERE original_ok AND copy_ok) AS both_ok,
    count(*) FILTER (WHERE NOT original_ok AND copy_ok) AS original_not_ok,
    count(*) FILTER (WHERE original_ok AND NOT copy_ok) AS copy_not_ok,
    count(*) FILTER (WHERE NOT original_ok AND NOT copy_ok) AS neither_ok
FROM sides
LEFT JOIN asked ON sides.endpoint = asked.endpoint
GROUP BY sides.endpoint, copied_to
ORDER BY both_ok DESC, sides.endpoint, copied_to;
