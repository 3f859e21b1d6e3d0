-- A row is one ok request with its prompt's length, in input tokens and in characters, as far as they are known. Endpoints
-- count one prompt differently: its tokens are the mean over all that counted it. If an endpoint has more than 200,000
-- requests, some 200,000 or fewer are picked by their ids. Needs the view `prompts` (see answers.sql).
WITH ok AS (
    SELECT endpoint, run_id, prompt_id, input_tokens, output_tokens, latency_s, ttft_s, started_at, span_id
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND endpoint IS NOT NULL
),
shares AS (SELECT endpoint, CAST(ceil(count(*) / 200_000) AS UBIGINT) AS one_of FROM ok GROUP BY endpoint),
picked AS (
    SELECT ok.*
    FROM ok
    INNER JOIN shares USING (endpoint)
    WHERE hash(span_id) % one_of = 0
)
SELECT
    picked.endpoint,
    CASE
        WHEN picked.prompt_id IS NULL THEN CAST(picked.input_tokens AS DOUBLE)
        ELSE avg(picked.input_tokens) OVER (PARTITION BY picked.run_id, picked.prompt_id)
    END AS input_tokens,
    CAST(length(prompts.prompt) AS DOUBLE) AS characters,
    CAST(picked.output_tokens AS DOUBLE) AS output_tokens,
    picked.latency_s,
    picked.ttft_s
FROM picked
LEFT JOIN prompts ON picked.run_id = prompts.run_id AND picked.prompt_id = prompts.prompt_id
ORDER BY picked.endpoint, picked.started_at, picked.span_id;
