-- A row is one collected span of a server: a gateway's or an engine's, by its kind, or by figures that only engines
-- have (some of their spans name no kind). A server that called the client is one too: see its place in the trace.
CREATE OR REPLACE VIEW server_spans AS
SELECT
    trace_id,
    span_id,
    parent_span_id,
    name,
    kind,
    service,
    started_at,
    latency_s,
    operation,
    model,
    response_id,
    input_tokens,
    output_tokens,
    queue_s,
    prefill_s,
    decode_s,
    ttft_s,
    error,
    attributes
FROM collected_spans
WHERE kind = 'SERVER' OR coalesce(queue_s, prefill_s, decode_s) IS NOT NULL;
