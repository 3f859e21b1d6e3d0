-- A row is one figure of one prompt that two endpoints both answered: each side's sum over the repeats in which both
-- sides have the figure. Needs the view of pairs.sql.
WITH prompts AS (
    SELECT
        first_endpoint,
        second_endpoint,
        coalesce(run_id, '') || '/' || prompt_id AS prompt,
        [
            count(first_latency_s + second_latency_s),
            count(first_ttft_s + second_ttft_s),
            count(first_tpot_s + second_tpot_s)
        ] AS pairs,
        [
            sum(first_latency_s) FILTER (WHERE second_latency_s IS NOT NULL),
            sum(first_ttft_s) FILTER (WHERE second_ttft_s IS NOT NULL),
            sum(first_tpot_s) FILTER (WHERE second_tpot_s IS NOT NULL)
        ] AS first_sums,
        [
            sum(second_latency_s) FILTER (WHERE first_latency_s IS NOT NULL),
            sum(second_ttft_s) FILTER (WHERE first_ttft_s IS NOT NULL),
            sum(second_tpot_s) FILTER (WHERE first_tpot_s IS NOT NULL)
        ] AS second_sums
    FROM pairs
    GROUP BY first_endpoint, second_endpoint, prompt
),
figures AS (
    SELECT
        first_endpoint,
        second_endpoint,
        unnest(['latency_s', 'ttft_s', 'tpot_s']) AS figure,
        prompt,
        unnest(pairs) AS pairs,
        unnest(first_sums) AS first_sum,
        unnest(second_sums) AS second_sum
    FROM prompts
)
SELECT *
FROM figures
WHERE pairs > 0
ORDER BY first_endpoint, second_endpoint, figure, prompt;
