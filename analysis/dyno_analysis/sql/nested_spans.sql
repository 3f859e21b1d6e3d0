-- A row is a span of a trace that has several requests to a model, in the order of the traces. `seq` is the number of its
-- staged row (one on its way into the folder), or NULL; `settled` spans stay whatever is around them.
WITH told AS (
    FROM read_json(
        'staged/told',
        format = 'newline_delimited',
        columns = {
            trace_id: 'VARCHAR', span_id: 'VARCHAR', parent: 'VARCHAR', request: 'BOOLEAN', settled: 'BOOLEAN',
            usage: 'BOOLEAN', server: 'BOOLEAN', weak: 'BOOLEAN', response: 'VARCHAR'
        }
    )
),
staged AS (
    SELECT trace_id, span_id, min(seq) AS seq, make_timestamptz(any_value(started_at_us)) AS started_at
    FROM read_json(
        'staged/*.jsonl',
        format = 'newline_delimited',
        columns = {seq: 'BIGINT', trace_id: 'VARCHAR', span_id: 'VARCHAR', started_at_us: 'BIGINT'}
    )
    GROUP BY ALL
),
stored AS (
    -- A call's spans start within an hour, so other files need not be read.
    SELECT trace_id, span_id, parent_span_id, output_tokens IS NOT NULL AS usage,
        response_id AS response
    FROM spans
    WHERE trace_id IN (SELECT trace_id FROM staged)
        AND started_at >= (SELECT min(started_at) FROM staged) - INTERVAL 1 HOUR
        AND started_at <= (SELECT max(started_at) FROM staged) + INTERVAL 1 HOUR
),
known AS (
    SELECT trace_id, span_id, parent, request, settled, usage, server, weak, response, false AS is_stored
    FROM told
    WHERE (trace_id, span_id) NOT IN (SELECT (trace_id, span_id) FROM stored)
    UNION ALL
    SELECT trace_id, span_id, parent_span_id, true, true, usage, false, false, response, true
    FROM stored
),
several AS (
    SELECT trace_id
    FROM known
    WHERE request
    GROUP BY ALL
    HAVING count(*) > 1 AND count(*) FILTER (NOT settled) > 0
)
SELECT trace_id, span_id, parent, CASE WHEN NOT is_stored THEN seq END AS seq, request, settled, usage, server, weak, response
FROM known
SEMI JOIN several USING (trace_id)
LEFT JOIN staged USING (trace_id, span_id)
ORDER BY trace_id;
