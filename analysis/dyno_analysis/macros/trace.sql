-- Two functions over `spans` and `collected_spans`: FROM trace_spans('0af7651916cd43dd8448eb211c80319c').
-- In a DuckDB of your own: paste spans.sql and collected_spans.sql first, then this file.

-- A row is one span of a trace: a request through the proxy, or a collected span. Offsets: µs since the span began.
CREATE OR REPLACE MACRO trace_spans(id) AS TABLE
SELECT
    trace_id,
    span_id,
    parent_span_id,
    true AS is_request,
    concat_ws(' ', coalesce(operation, method), model) AS name,
    endpoint AS service,
    'CLIENT' AS kind,
    epoch_us(started_at) AS started_at_us,
    CAST(round(latency_s * 1e6) AS BIGINT) AS duration_us,
    outcome,
    error_type AS error,
    simulated,
    streamed,
    status,
    body_received_us,
    connected_us,
    sent_us,
    CAST(round(ttfb_s * 1e6) AS BIGINT) AS headers_us,
    CAST(round(ttft_s * 1e6) AS BIGINT) AS first_token_us,
    CAST(round(ttfa_s * 1e6) AS BIGINT) AS first_answer_us,
    TRY_CAST(attributes['dyno.event.last_token_us'] AS BIGINT) AS last_token_us,
    chunk_offsets_us,
    server_queue_s AS queue_s,
    server_prefill_s AS prefill_s,
    server_decode_s AS decode_s,
    input_tokens,
    output_tokens
FROM spans
WHERE trace_id = id
UNION ALL BY NAME
SELECT
    trace_id,
    span_id,
    parent_span_id,
    false AS is_request,
    name,
    service,
    kind,
    epoch_us(started_at) AS started_at_us,
    CAST(round(latency_s * 1e6) AS BIGINT) AS duration_us,
    error,
    status,
    queue_s,
    prefill_s,
    decode_s,
    input_tokens,
    output_tokens
FROM collected_spans
WHERE trace_id = id
-- A sender that got no answer sends a span again; each span is kept once.
QUALIFY row_number() OVER (PARTITION BY span_id ORDER BY duration_us DESC NULLS LAST) = 1
ORDER BY started_at_us, is_request DESC, span_id;

-- A row is one trace that a name may mean: its id or a span's id begins with it, or it is the id of a response.
CREATE OR REPLACE MACRO traces_named(id) AS TABLE
SELECT
    trace_id,
    min(epoch_us(started_at)) AS started_at_us,
    count(*) AS spans,
    max(name) AS name
FROM (
    SELECT trace_id, span_id, response_id, started_at, concat_ws(' ', endpoint, coalesce(operation, method), model) AS name
    FROM spans
    UNION ALL
    SELECT trace_id, span_id, response_id, started_at, name
    FROM collected_spans
)
WHERE starts_with(trace_id, lower(id)) OR starts_with(span_id, lower(id)) OR response_id = id
GROUP BY trace_id
ORDER BY started_at_us DESC;
