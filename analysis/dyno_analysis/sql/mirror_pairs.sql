-- A row is a pair: a request and its copy by the mirror, both ok. Each pair has two rows, one from each side. This view
-- replaces that of pairs.sql and has its columns. If the client gave no prompt id, each pair is a prompt of its own.
CREATE OR REPLACE VIEW pairs AS
WITH answered AS (
    SELECT
        *,
        coalesce(mirror_trace_id, trace_id) AS original_trace_id,
        coalesce(mirror_span_id, span_id) AS original_span_id
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND endpoint IS NOT NULL AND prompt_id IS NOT NULL
)
SELECT
    a.run_id,
    a.prompt_id,
    coalesce(a.repeat, 1) AS repeat,
    a.endpoint AS first_endpoint,
    b.endpoint AS second_endpoint,
    a.started_at AS first_started_at,
    b.started_at AS second_started_at,
    a.latency_s AS first_latency_s,
    b.latency_s AS second_latency_s,
    a.ttft_s AS first_ttft_s,
    b.ttft_s AS second_ttft_s,
    a.tpot_s AS first_tpot_s,
    b.tpot_s AS second_tpot_s,
    a.input_tokens AS first_input_tokens,
    b.input_tokens AS second_input_tokens,
    a.output_tokens AS first_output_tokens,
    b.output_tokens AS second_output_tokens,
    a.overhead_us AS first_overhead_us,
    b.overhead_us AS second_overhead_us,
    a.overhead_end_us AS first_overhead_end_us,
    b.overhead_end_us AS second_overhead_end_us
FROM answered AS a
INNER JOIN answered AS b
    ON a.original_trace_id = b.original_trace_id
    AND a.original_span_id = b.original_span_id
    AND a.mirror <> b.mirror
    AND a.endpoint <> b.endpoint;
