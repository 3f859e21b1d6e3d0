-- A row is one ok answer of a run, with its prompt and the prompt's references. It needs `spans` and the run's files:
-- CREATE VIEW answers AS SELECT 'RUN_ID' AS run_id, * FROM 'spans/runs/RUN_ID/answers.parquet';
-- CREATE VIEW prompts AS SELECT 'RUN_ID' AS run_id, * FROM 'spans/runs/RUN_ID/prompts.parquet';
SELECT
    answers.endpoint,
    answers.prompt_id,
    coalesce(answers.repeat, 1) AS repeat,
    prompts.question,
    prompts.prompt,
    prompts.reference_answers,
    answers.answer,
    answers.reasoning,
    spans.latency_s,
    spans.output_tokens,
    spans.trace_id,
    spans.input_tokens,
    prompts.domain
FROM answers
INNER JOIN spans USING (run_id, trace_id, endpoint)
LEFT JOIN prompts ON answers.run_id = prompts.run_id AND answers.prompt_id = prompts.prompt_id
WHERE NOT spans.warmup AND spans.outcome = 'ok' AND answers.answer IS NOT NULL
ORDER BY try_cast(answers.prompt_id AS BIGINT), answers.prompt_id, answers.repeat, answers.endpoint;
