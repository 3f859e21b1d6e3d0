-- A row is one figure of one prompt over the mirrored requests with it and their copies: the columns of
-- paired_prompts.sql. A request counts if its copy has the figure too, so both sides have equal numbers.
-- Needs the view of mirror_pairs.sql.
WITH figures AS (
    SELECT
        first_endpoint,
        second_endpoint,
        prompt_id AS prompt,
        unnest(['latency_s', 'ttft_s', 'tpot_s']) AS figure,
        unnest([first_latency_s, first_ttft_s, first_tpot_s]) AS first_s,
        unnest([second_latency_s, second_ttft_s, second_tpot_s]) AS second_s,
        unnest([second_overhead_end_us - first_overhead_end_us, second_overhead_us - first_overhead_us, NULL])
            AS more_overhead_us
    FROM pairs
)
SELECT
    first_endpoint,
    second_endpoint,
    figure,
    prompt,
    count(*) AS first_n,
    count(*) AS second_n,
    avg(first_s) AS first_mean,
    avg(second_s) AS second_mean,
    avg(ln(first_s)) AS first_log,
    avg(ln(second_s)) AS second_log,
    avg(more_overhead_us) / 1e6 AS more_overhead_s
FROM figures
WHERE first_s > 0 AND second_s > 0
GROUP BY first_endpoint, second_endpoint, figure, prompt
ORDER BY first_endpoint, second_endpoint, figure, prompt;
