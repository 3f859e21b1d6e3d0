-- A row is one collected span of a server, a gateway or an engine: its kind says so, or figures that only engines have
-- (some of their spans have no kind). A server that called the client is here too; only its place in the trace shows
-- that.
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
