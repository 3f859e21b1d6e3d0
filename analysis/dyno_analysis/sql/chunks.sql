-- A row is one chunk of a streamed answer: an SSE event with output. `offset_s` is its arrival after the request's,
-- `gap_s` the time since the one before; 0 where both came in one network read, NULL for the first.
CREATE OR REPLACE VIEW chunks AS
SELECT
    trace_id,
    span_id,
    endpoint,
    model,
    run_id,
    started_at,
    outcome,
    warmup,
    n,
    chunk_offsets_us[n] / 1e6 AS offset_s,
    CASE WHEN n > 1 THEN (chunk_offsets_us[n] - chunk_offsets_us[n - 1]) / 1e6 END AS gap_s
FROM (
    FROM spans
    SELECT *, unnest(generate_series(1, len(chunk_offsets_us))) AS n
);
