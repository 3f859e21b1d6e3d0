-- A row is one gap in the numbers that a writer gave its rows: spans that were recorded and aren't in the folder. They were
-- dropped and counted (dyno_spans_dropped_total), their lines were broken, their file is missing, or `keep` deleted them
-- for their age. `after_at` and `before_at` are the starts of the requests on both sides of the gap.
CREATE OR REPLACE VIEW lost AS
WITH blocks AS (
    -- Most stretches of numbers are whole. Only the others are looked at row by row.
    SELECT
        writer,
        seq // 4096 AS block,
        min(seq) AS low,
        max(seq) AS high,
        arg_min(started_at, seq) AS low_at,
        arg_max(started_at, seq) AS high_at,
        count(*) AS n
    FROM spans AS every
    WHERE seq IS NOT NULL
    GROUP BY ALL
),
inside AS (
    SELECT writer, seq, started_at, block
    FROM (FROM spans AS every SELECT writer, seq, started_at, seq // 4096 AS block)
    SEMI JOIN (FROM blocks WHERE n < high - low + 1) AS torn USING (writer, block)
),
neighbours AS (
    SELECT
        writer,
        high AS seq,
        lead(low) OVER (PARTITION BY writer ORDER BY block) AS next_seq,
        high_at AS after_at,
        lead(low_at) OVER (PARTITION BY writer ORDER BY block) AS before_at
    FROM blocks
    UNION ALL
    SELECT
        writer,
        seq,
        lead(seq) OVER (PARTITION BY writer, block ORDER BY seq),
        started_at,
        lead(started_at) OVER (PARTITION BY writer, block ORDER BY seq)
    FROM inside
)
SELECT
    writer,
    seq + 1 AS first_seq,
    next_seq - 1 AS last_seq,
    next_seq - seq - 1 AS missing,
    after_at,
    before_at
FROM neighbours
WHERE next_seq > seq + 1;
