-- A row is one figure of one prompt that two endpoints both answered: each side's number of requests that have the figure,
-- its mean, and the mean of its logarithms. A prompt is its text, whatever its run or id; where the text isn't known, it
-- is the client's prompt id. All ok requests of a prompt count, also in unequal numbers. `more_overhead_s` is what the
-- proxy added to the second's figure more than to the first's. Needs the view `prompts` (see answers.sql).
WITH texts AS (
    SELECT run_id, prompt_id, any_value(prompt) AS prompt
    FROM prompts
    WHERE prompt IS NOT NULL
    GROUP BY run_id, prompt_id
),
requests AS (
    SELECT
        spans.endpoint,
        coalesce('text ' || md5(texts.prompt), 'id ' || spans.prompt_id) AS prompt,
        CASE WHEN latency_s > 0 THEN latency_s END AS latency_s,
        CASE WHEN ttft_s > 0 THEN ttft_s END AS ttft_s,
        CASE WHEN tpot_s > 0 THEN tpot_s END AS tpot_s,
        overhead_us,
        overhead_end_us
    FROM spans
    LEFT JOIN texts ON spans.run_id = texts.run_id AND spans.prompt_id = texts.prompt_id
    WHERE NOT warmup AND outcome = 'ok' AND spans.prompt_id IS NOT NULL AND spans.endpoint IS NOT NULL
),
sides AS (
    SELECT
        endpoint,
        prompt,
        [count(latency_s), count(ttft_s), count(tpot_s)] AS n,
        [avg(latency_s), avg(ttft_s), avg(tpot_s)] AS mean,
        [avg(ln(latency_s)), avg(ln(ttft_s)), avg(ln(tpot_s))] AS log,
        [avg(overhead_end_us) / 1e6, avg(overhead_us) / 1e6, NULL] AS overhead_s
    FROM requests
    GROUP BY endpoint, prompt
),
figures AS (
    SELECT
        endpoint,
        prompt,
        unnest(['latency_s', 'ttft_s', 'tpot_s']) AS figure,
        unnest(n) AS n,
        unnest(mean) AS mean,
        unnest(log) AS log,
        unnest(overhead_s) AS overhead_s
    FROM sides
)
SELECT
    a.endpoint AS first_endpoint,
    b.endpoint AS second_endpoint,
    figure,
    prompt,
    a.n AS first_n,
    b.n AS second_n,
    a.mean AS first_mean,
    b.mean AS second_mean,
    a.log AS first_log,
    b.log AS second_log,
    b.overhead_s - a.overhead_s AS more_overhead_s
FROM figures AS a
INNER JOIN figures AS b USING (prompt, figure)
WHERE a.endpoint <> b.endpoint AND a.n > 0 AND b.n > 0
ORDER BY first_endpoint, second_endpoint, figure, prompt;
