-- A row is one figure of one prompt in one run that two endpoints both answered: the logarithm of the ratio of their
-- geometric means. A prompt is as in paired_prompts.sql. Needs the view `prompts` (see answers.sql).
WITH texts AS (
    SELECT run_id, prompt_id, any_value(prompt) AS prompt
    FROM prompts
    WHERE prompt IS NOT NULL
    GROUP BY run_id, prompt_id
),
sides AS (
    SELECT
        spans.run_id,
        spans.endpoint,
        coalesce('text ' || md5(texts.prompt), 'id ' || spans.prompt_id) AS prompt,
        [
            avg(ln(CASE WHEN latency_s > 0 THEN latency_s END)),
            avg(ln(CASE WHEN ttft_s > 0 THEN ttft_s END)),
            avg(ln(CASE WHEN tpot_s > 0 THEN tpot_s END))
        ] AS log
    FROM spans
    LEFT JOIN texts ON spans.run_id = texts.run_id AND spans.prompt_id = texts.prompt_id
    WHERE NOT warmup AND outcome = 'ok'
        AND spans.prompt_id IS NOT NULL AND spans.endpoint IS NOT NULL AND spans.run_id IS NOT NULL
    GROUP BY ALL
),
figures AS (
    SELECT
        run_id,
        endpoint,
        prompt,
        unnest(['latency_s', 'ttft_s', 'tpot_s']) AS figure,
        unnest(log) AS log
    FROM sides
)
SELECT
    a.endpoint AS first_endpoint,
    b.endpoint AS second_endpoint,
    figure,
    run_id,
    prompt,
    a.log - b.log AS log_ratio
FROM figures AS a
INNER JOIN figures AS b USING (run_id, prompt, figure)
WHERE a.endpoint <> b.endpoint AND a.log IS NOT NULL AND b.log IS NOT NULL
ORDER BY first_endpoint, second_endpoint, figure, run_id, prompt;
