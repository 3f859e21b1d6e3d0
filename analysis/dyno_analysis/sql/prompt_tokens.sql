-- A row is one prompt of one endpoint: the mean latency and tokens of its ok requests whose tokens are all known. A prompt is
-- as in paired_prompts.sql. Needs the view `prompts` (see answers.sql).
WITH texts AS (
    SELECT run_id, prompt_id, any_value(prompt) AS prompt
    FROM prompts
    WHERE prompt IS NOT NULL
    GROUP BY run_id, prompt_id
)
SELECT
    spans.endpoint,
    coalesce('text ' || md5(texts.prompt), 'id ' || spans.prompt_id) AS prompt,
    avg(latency_s) AS latency_s,
    avg(input_tokens) AS input_tokens,
    avg(output_tokens) AS output_tokens
FROM spans
LEFT JOIN texts ON spans.run_id = texts.run_id AND spans.prompt_id = texts.prompt_id
WHERE
    NOT warmup
    AND outcome = 'ok'
    AND spans.endpoint IS NOT NULL
    AND spans.prompt_id IS NOT NULL
    AND latency_s > 0
    AND input_tokens IS NOT NULL
    AND output_tokens > 0
GROUP BY ALL
ORDER BY spans.endpoint, prompt;
