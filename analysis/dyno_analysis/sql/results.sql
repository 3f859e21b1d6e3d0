-- A row is one request as the results file lists it, in the order of prompts and repeats, with the prompt and the
-- answer that the run kept. Warm-ups are left out. Needs the views `answers` and `prompts` (see answers.sql).
SELECT
    spans.endpoint,
    spans.trace_id,
    epoch_us(spans.started_at) AS started_at_us,
    spans.model,
    spans.provider,
    spans.prompt_id,
    spans.repeat,
    spans.run_id,
    spans.outcome,
    spans.error_type,
    spans.status,
    spans.streamed,
    spans.simulated,
    spans.latency_s,
    spans.ttfb_s,
    spans.ttft_s,
    spans.ttfa_s,
    spans.tpot_s,
    spans.input_tokens,
    spans.output_tokens,
    spans.reasoning_tokens,
    spans.cached_tokens,
    spans.usage_source,
    spans.finish_reason,
    spans.chunk_offsets_us,
    spans.overhead_us,
    spans.loop_lag_us,
    -- The file has them all in one object, as earlier versions had.
    CAST(to_json(map_concat(
        spans.attributes,
        map_from_entries(
            list_filter(
                [
                    -- begin: columns of spans that its map doesn't have, written by make sql
                    {'k': 'gen_ai.request.reasoning.level', 'v': reasoning_level},
                    {'k': 'gen_ai.response.id', 'v': response_id},
                    {
                        'k': 'gen_ai.response.finish_reasons',
                        'v': CASE WHEN len(finish_reasons) > 1 THEN CAST(to_json(finish_reasons) AS VARCHAR) END
                    },
                    {'k': 'user_agent.original', 'v': user_agent},
                    {'k': 'client.address', 'v': client_address},
                    {'k': 'dyno.client', 'v': client},
                    {'k': 'dyno.user', 'v': "user"},
                    {'k': 'session.id', 'v': session_id},
                    {'k': 'dyno.request_id', 'v': request_id},
                    {'k': 'dyno.parent.sampled', 'v': CAST(sampled AS VARCHAR)},
                    {'k': 'dyno.parent.tracestate', 'v': tracestate},
                    {'k': 'dyno.usage.first_chunk_tokens', 'v': CAST(first_chunk_tokens AS VARCHAR)},
                    {'k': 'dyno.usage.first_read_tokens', 'v': CAST(first_read_tokens AS VARCHAR)},
                    {'k': 'dyno.choice.count', 'v': CAST(choice_count AS VARCHAR)},
                    {'k': 'dyno.reasoning.streamed', 'v': CAST(reasoning_streamed AS VARCHAR)},
                    {'k': 'dyno.connection.reused', 'v': CAST(connection_reused AS VARCHAR)},
                    {'k': 'dyno.retries', 'v': CAST(retries AS VARCHAR)},
                    {'k': 'dyno.resent', 'v': CAST(resent AS VARCHAR)},
                    {'k': 'dyno.connection.rtt_us', 'v': CAST(rtt_us AS VARCHAR)},
                    {'k': 'dyno.connection.min_rtt_us', 'v': CAST(min_rtt_us AS VARCHAR)},
                    {'k': 'dyno.retry_after_s', 'v': CAST(retry_after_s AS VARCHAR)},
                    {'k': 'dyno.event.body_received_us', 'v': CAST(body_received_us AS VARCHAR)},
                    {'k': 'dyno.event.connected_us', 'v': CAST(connected_us AS VARCHAR)},
                    {'k': 'dyno.event.sent_us', 'v': CAST(sent_us AS VARCHAR)},
                    {'k': 'dyno.event.headers_us', 'v': CAST(headers_us AS VARCHAR)},
                    {'k': 'dyno.event.first_event_us', 'v': CAST(first_event_us AS VARCHAR)},
                    {'k': 'dyno.event.first_token_us', 'v': CAST(first_token_us AS VARCHAR)},
                    {'k': 'dyno.event.first_answer_us', 'v': CAST(first_answer_us AS VARCHAR)},
                    {'k': 'dyno.event.last_token_us', 'v': CAST(last_token_us AS VARCHAR)},
                    {'k': 'dyno.event.done_us', 'v': CAST(done_us AS VARCHAR)},
                    {'k': 'dyno.overhead.end_us', 'v': CAST(overhead_end_us AS VARCHAR)},
                    {'k': 'dyno.gc_pause_us', 'v': CAST(gc_pause_us AS VARCHAR)},
                    {'k': 'dyno.load.concurrency', 'v': CAST(load_concurrency AS VARCHAR)},
                    {'k': 'dyno.load.rate_per_s', 'v': CAST(load_rate_per_s AS VARCHAR)}
                    -- end
                ],
                lambda entry: entry.v IS NOT NULL
            )
        )
    )) AS VARCHAR) AS attributes,
    CAST(to_json(spans) AS VARCHAR) AS span,
    prompts.prompt,
    prompts.question,
    prompts.reference_answers,
    answers.answer,
    answers.reasoning,
    answers.error
FROM spans
LEFT JOIN answers USING (run_id, trace_id, endpoint)
LEFT JOIN prompts ON spans.run_id = prompts.run_id AND spans.prompt_id = prompts.prompt_id
WHERE NOT spans.warmup AND spans.endpoint IS NOT NULL
ORDER BY spans.endpoint, spans.run_id, try_cast(spans.prompt_id AS BIGINT), spans.prompt_id, spans.repeat, spans.started_at;
