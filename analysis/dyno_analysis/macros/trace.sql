-- Functions over `spans` and `collected_spans`: FROM trace_spans('0af7651916cd43dd8448eb211c80319c').
-- In a DuckDB of your own: paste spans.sql and collected_spans.sql first, then this file.

-- A row joins a request to a collected span of the same call in another trace: its client sent no `traceparent`, or its
-- server took none. Both have the response's id, they overlap in time (within 2 s, since clocks differ), and the span's
-- URL names no other endpoint. `id` is a trace's id or that of a response.
CREATE OR REPLACE MACRO joined_spans(id) AS TABLE
SELECT DISTINCT
    requests.trace_id,
    requests.span_id,
    others.trace_id AS other_trace_id,
    others.span_id AS other_span_id,
    others.kind AS other_kind
FROM spans AS requests
INNER JOIN collected_spans AS others ON requests.response_id = others.response_id
WHERE
    (requests.trace_id = id OR others.trace_id = id OR requests.response_id = id)
    AND requests.trace_id <> others.trace_id
    AND requests.started_at <= others.started_at + to_microseconds(CAST((others.latency_s + 2) * 1e6 AS BIGINT))
    AND others.started_at <= requests.started_at + to_microseconds(CAST((requests.latency_s + 2) * 1e6 AS BIGINT))
    AND (
        others.kind = 'SERVER'
        OR coalesce(
            nullif(
                regexp_extract(
                    coalesce(others.attributes['url.full'], others.attributes['http.url'], others.path, ''),
                    '^(?:[a-z]+://[^/]+)?/([^/]+)/v1(?:/|$)',
                    1
                ),
                ''
            ),
            requests.endpoint
        ) = requests.endpoint
    );

-- A row is one span of a trace: a request through the proxy, or a collected span. Offsets: µs since the span began.
-- Spans that are joined to it by the response's id are there too, with what surrounds them in their own trace.
CREATE OR REPLACE MACRO trace_spans(id) AS TABLE
WITH joined AS (FROM joined_spans(id)),
traces AS (
    SELECT id AS trace_id
    UNION
    SELECT trace_id FROM joined
    UNION
    SELECT other_trace_id FROM joined
),
callers AS (
    SELECT trace_id, span_id, min(other_span_id) AS caller
    FROM joined
    WHERE other_kind = 'CLIENT'
    GROUP BY ALL
),
called AS (
    SELECT other_trace_id AS trace_id, other_span_id AS span_id, min(span_id) AS request
    FROM joined
    WHERE other_kind = 'SERVER'
    GROUP BY ALL
)
SELECT
    trace_id,
    span_id,
    coalesce(parent_span_id, caller) AS parent_span_id,
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
    last_token_us,
    chunk_offsets_us,
    server_queue_s AS queue_s,
    server_prefill_s AS prefill_s,
    server_decode_s AS decode_s,
    input_tokens,
    output_tokens
FROM spans
LEFT JOIN callers USING (trace_id, span_id)
WHERE trace_id IN (FROM traces)
UNION ALL BY NAME
SELECT
    trace_id,
    span_id,
    coalesce(parent_span_id, request) AS parent_span_id,
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
LEFT JOIN called USING (trace_id, span_id)
WHERE trace_id IN (FROM traces)
-- A sender that got no answer sends a span again; each span is kept once.
QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY duration_us DESC NULLS LAST) = 1
ORDER BY started_at_us, is_request DESC, span_id;

-- A row is one trace that a name may mean: its id or a span's id begins with it, or it is the id of a response. Of traces
-- that the response's id joins, the request's stands for both.
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
WHERE
    starts_with(trace_id, lower(id))
    OR starts_with(span_id, lower(id))
    OR (response_id = id AND trace_id NOT IN (SELECT other_trace_id FROM joined_spans(id)))
GROUP BY trace_id
ORDER BY started_at_us DESC;
