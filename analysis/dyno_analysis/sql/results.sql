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
    CAST(to_json(spans.attributes) AS VARCHAR) AS attributes,
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
