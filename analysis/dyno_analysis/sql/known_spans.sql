-- A row is a staged span (one on its way into the folder) that must be left out: the view `spans` has it already, or it
-- was staged before. `seq` is its number among the staged ones.
WITH staged AS (
    FROM read_json(
        'staged/*.jsonl',
        format = 'newline_delimited',
        columns = {seq: 'BIGINT', trace_id: 'VARCHAR', span_id: 'VARCHAR', started_at_us: 'BIGINT'}
    )
),
stretch AS (
    -- The same span has the same start, so stored spans with another start need not be read.
    SELECT
        make_timestamptz(min(started_at_us)) AS first_start,
        make_timestamptz(max(started_at_us)) AS last_start
    FROM staged
),
stored AS (
    SELECT trace_id, span_id
    FROM spans
    WHERE started_at BETWEEN (SELECT first_start FROM stretch) AND (SELECT last_start FROM stretch)
),
counted AS (
    SELECT *, row_number() OVER (PARTITION BY trace_id, span_id ORDER BY seq) AS copy
    FROM staged
)
SELECT seq
FROM counted
WHERE copy > 1 OR (trace_id, span_id) IN (FROM stored);
