-- A row is one chunk of a streamed answer: an SSE event with output. `offset_s` is the time from the request's arrival
-- to the chunk's. `gap_s` is the time since the chunk before: 0 if one network read had both, NULL for the first chunk.
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
