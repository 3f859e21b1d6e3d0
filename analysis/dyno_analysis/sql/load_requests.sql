-- A row is one request that counts and whose client said under which load it sent it, with its figures where it is ok. A
-- prompt is as in paired_prompts.sql; a request without one is a prompt by itself. Needs the view `prompts` (see answers.sql).
-- In an open loop times are counted from when a request was due: by `send_lag_s` earlier, where the client said it. Otherwise a
-- client that falls behind would hide how long its requests waited (coordinated omission).
WITH texts AS (
    SELECT run_id, prompt_id, any_value(prompt) AS prompt
    FROM prompts
    WHERE prompt IS NOT NULL
    GROUP BY run_id, prompt_id
)
SELECT
    spans.endpoint,
    CAST(load_concurrency AS DOUBLE) AS load_concurrency,
    CAST(load_rate_per_s AS DOUBLE) AS load_rate_per_s,
    coalesce('text ' || md5(texts.prompt), 'id ' || spans.prompt_id, 'span ' || span_id) AS prompt,
    outcome = 'ok' AS is_ok,
    CAST(latency_s + late_s AS DOUBLE) AS latency_s,
    CASE WHEN outcome = 'ok' THEN ttfb_s + late_s END AS ttfb_s,
    CASE WHEN outcome = 'ok' THEN ttft_s + late_s END AS ttft_s,
    CASE WHEN outcome = 'ok' THEN ttfa_s + late_s END AS ttfa_s,
    CASE WHEN outcome = 'ok' THEN tpot_s END AS tpot_s,
    CAST(CASE WHEN outcome = 'ok' THEN output_tokens END AS DOUBLE) AS output_tokens,
    load_rate_per_s IS NOT NULL AND send_lag_s IS NOT NULL AS from_due
FROM (
    SELECT *, CASE WHEN load_rate_per_s IS NOT NULL THEN coalesce(send_lag_s, 0) ELSE 0 END AS late_s
    FROM spans
) AS spans
LEFT JOIN texts ON spans.run_id = texts.run_id AND spans.prompt_id = texts.prompt_id
WHERE
    NOT warmup
    AND spans.endpoint IS NOT NULL
    AND outcome NOT IN ('client_cancelled', 'rejected')
    AND (load_concurrency IS NOT NULL OR load_rate_per_s IS NOT NULL)
ORDER BY spans.endpoint, started_at, span_id;
