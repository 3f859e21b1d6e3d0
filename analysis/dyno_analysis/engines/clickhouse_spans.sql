-- A row is one request, as in spans.sql, from the table that the OpenTelemetry Collector's ClickHouse exporter fills.
-- The table's maps hold every attribute as text. Here `attributes` is the whole map, including what has a column.
-- `dyno report --store` uses this query without creating the view; for SQL of your own, run this file once.
CREATE OR REPLACE VIEW spans AS
-- part: rows
WITH
    (name) -> if(mapContains(SpanAttributes, name), SpanAttributes[name], NULL) AS text,
    (name) -> toInt64OrNull(SpanAttributes[name]) AS whole,
    (name) -> toFloat64OrNull(SpanAttributes[name]) AS number,
    (name) -> CASE SpanAttributes[name] WHEN 'true' THEN true WHEN 'false' THEN false END AS flag,
    -- As in spans.sql: reasoning that was counted but not streamed takes no time between the tokens.
    CASE
        WHEN flag('dyno.reasoning.hidden') THEN NULL
        WHEN reasoning_tokens > 0 AND NOT coalesce(flag('dyno.reasoning.streamed'), false)
            THEN output_tokens - reasoning_tokens
        ELSE output_tokens
    END AS streamed_tokens,
    whole('gen_ai.usage.output_tokens') AS told_tokens,
    text('dyno.usage.source') AS told_source,
    -- As in spans.sql: a stream that was read and had no output
    chunk_count = 0 AND status < 400 AND text('dyno.unread') IS NULL AS is_empty,
    JSONExtract(SpanAttributes['dyno.chunk.offsets_us'], 'Array(Int64)') AS offsets_us,
    JSONExtract(SpanAttributes['gen_ai.response.finish_reasons'], 'Array(String)') AS finish_reasons,
    -- The tokens that came with the first read, and the choices of the answer.
    coalesce(
        whole('dyno.usage.first_read_tokens'),
        greatest(
            coalesce(whole('dyno.usage.first_chunk_tokens'), toInt64(1)),
            toInt64(countEqual(offsets_us, coalesce(first_token_us, toInt64(-1)))),
            toInt64(1)
        )
    ) AS first_tokens,
    greatest(coalesce(whole('dyno.choice.count'), toInt64(1)), toInt64(length(finish_reasons)), toInt64(1)) AS choices,
    whole('dyno.event.first_token_us') AS first_token_us,
    whole('dyno.event.last_token_us') AS last_token_us
SELECT
    TraceId AS trace_id,
    SpanId AS span_id,
    nullIf(ParentSpanId, '') AS parent_span_id,
    Timestamp AS started_at,
    text('dyno.endpoint') AS endpoint,
    text('gen_ai.provider.name') AS provider,
    text('gen_ai.operation.name') AS operation,
    text('gen_ai.request.model') AS model,
    text('gen_ai.response.model') AS response_model,
    flag('dyno.streamed') AS streamed,
    text('http.request.method') AS method,
    coalesce(text('dyno.path'), text('url.path')) AS path,
    whole('http.response.status_code') AS status,
    text('dyno.outcome') AS outcome,
    text('error.type') AS error_type,
    intDiv(Duration, 1000) / 1e6 AS latency_s,
    whole('dyno.event.headers_us') / 1e6 AS ttfb_s,
    CASE WHEN streamed THEN first_token_us / 1e6 END AS ttft_s,
    CASE WHEN streamed THEN whole('dyno.event.first_answer_us') / 1e6 END AS ttfa_s,
    CASE
        WHEN last_token_us = first_token_us THEN NULL
        WHEN streamed AND streamed_tokens > first_tokens
            THEN (last_token_us - first_token_us) / 1e6 * choices / (streamed_tokens - first_tokens)
    END AS tpot_s,
    whole('gen_ai.usage.input_tokens') AS input_tokens,
    if(
        told_tokens IS NULL AND streamed AND (told_source = 'chunks' OR is_empty), chunk_count, told_tokens
    ) AS output_tokens,
    whole('gen_ai.usage.reasoning.output_tokens') AS reasoning_tokens,
    whole('gen_ai.usage.cache_read.input_tokens') AS cached_tokens,
    if(
        told_source IS NULL AND text('dyno.imported_from') IS NULL,
        multiIf(
            told_tokens IS NULL AND streamed AND is_empty, 'chunks',
            told_tokens IS NULL AND NOT streamed AND input_tokens IS NOT NULL, 'server',
            NULL
        ),
        told_source
    ) AS usage_source,
    nullIf(finish_reasons[1], '') AS finish_reason,
    whole('dyno.chunk.count') AS chunk_count,
    offsets_us AS chunk_offsets_us,
    whole('http.request.body.size') AS request_bytes,
    whole('http.response.body.size') AS response_bytes,
    number('dyno.server.ttft_s') AS server_ttft_s,
    number('dyno.server.latency_s') AS server_latency_s,
    number('dyno.server.queue_s') AS server_queue_s,
    whole('dyno.overhead_us') AS overhead_us,
    whole('dyno.loop_lag_us') AS loop_lag_us,
    text('dyno.run.id') AS run_id,
    text('dyno.workload') AS workload,
    text('dyno.prompt.id') AS prompt_id,
    whole('dyno.repeat') AS repeat,
    coalesce(flag('dyno.warmup'), false) AS warmup,
    fromUnixTimestamp64Micro(whole('dyno.due_at_unix_us'), 'UTC') AS due_at,
    number('dyno.send_lag_s') AS send_lag_s,
    flag('dyno.simulated') AS simulated,
    text('dyno.imported_from') AS imported_from,
    SpanAttributes AS attributes,
    whole('dyno.overhead.end_us') AS overhead_end_us,
    text('dyno.mirror') AS mirror,
    text('dyno.mirror.trace_id') AS mirror_trace_id,
    text('dyno.mirror.span_id') AS mirror_span_id,
    text('gen_ai.response.id') AS response_id,
    whole('dyno.event.body_received_us') AS body_received_us,
    whole('dyno.event.connected_us') AS connected_us,
    whole('dyno.event.sent_us') AS sent_us,
    number('dyno.server.prefill_s') AS server_prefill_s,
    number('dyno.server.decode_s') AS server_decode_s,
    if(
        empty(finish_reasons),
        NULL,
        hasAny(
            arrayMap(reason -> lower(reason), finish_reasons),
            ['length', 'max_tokens', 'max_output_tokens', 'model_length', 'model_context_window_exceeded']
        )
    ) AS cut_by_length,
    text('user_agent.original') AS user_agent,
    text('dyno.client') AS client,
    text('client.address') AS client_address,
    text('dyno.user') AS user,
    -- As in spans.sql
    coalesce(text('session.id'), text('gen_ai.conversation.id'), text('dyno.user')) AS session_id,
    text('dyno.request_id') AS request_id,
    text('gen_ai.request.reasoning.level') AS reasoning_level,
    whole('dyno.choice.count') AS choice_count,
    whole('dyno.usage.first_read_tokens') AS first_read_tokens,
    flag('dyno.connection.reused') AS connection_reused,
    flag('dyno.resent') AS resent,
    whole('dyno.retries') AS retries,
    number('dyno.retry_after_s') AS retry_after_s,
    whole('dyno.connection.rtt_us') AS rtt_us,
    whole('dyno.connection.min_rtt_us') AS min_rtt_us,
    whole('dyno.gc_pause_us') AS gc_pause_us,
    flag('dyno.parent.sampled') AS sampled,
    text('dyno.parent.tracestate') AS tracestate,
    finish_reasons,
    whole('dyno.usage.first_chunk_tokens') AS first_chunk_tokens,
    flag('dyno.reasoning.streamed') AS reasoning_streamed,
    whole('dyno.event.headers_us') AS headers_us,
    whole('dyno.event.first_event_us') AS first_event_us,
    first_token_us,
    whole('dyno.event.first_answer_us') AS first_answer_us,
    last_token_us,
    whole('dyno.event.done_us') AS done_us,
    whole('dyno.load.concurrency') AS load_concurrency,
    number('dyno.load.rate_per_s') AS load_rate_per_s,
    -- Only a spans folder has these two.
    CAST(NULL AS Nullable(String)) AS writer,
    CAST(NULL AS Nullable(Int64)) AS seq,
    fromUnixTimestamp64Micro(toUnixTimestamp64Micro(started_at) + intDiv(Duration, 1000), 'UTC') AS ended_at,
    outcome NOT IN ('ok', 'client_cancelled', 'rejected') AS failed
FROM otel_traces
-- Clients and engines may send their spans to the same table. Only our own requests have an outcome.
WHERE mapContains(SpanAttributes, 'dyno.outcome');
