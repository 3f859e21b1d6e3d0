-- A row is one figure of one prompt that two endpoints both answered: its sums over the repeats in which both know the
-- figure, from either side. Needs the view of pairs.sql.
WITH figures AS (
    SELECT
        first_endpoint,
        second_endpoint,
        run_id,
        prompt_id,
        unnest(['latency_s', 'ttft_s', 'tpot_s']) AS figure,
        unnest([first_latency_s, first_ttft_s, first_tpot_s]) AS first_value,
        unnest([second_latency_s, second_ttft_s, second_tpot_s]) AS second_value
    FROM pairs
)
SELECT
    first_endpoint,
    second_endpoint,
    figure,
    coalesce(run_id, '') || '/' || prompt_id AS prompt,
    count(*) AS pairs,
    sum(first_value) AS first_sum,
    sum(second_value) AS second_sum
FROM figures
WHERE first_value IS NOT NULL AND second_value IS NOT NULL
GROUP BY ALL
ORDER BY first_endpoint, second_endpoint, figure, prompt;
