-- A row is two endpoints with figures that show whether their comparison is fair: how often the same prompt was counted
-- as different input, and how often each of the two was asked first. Needs the view of pairs.sql.
SELECT
    first_endpoint,
    second_endpoint,
    count(*) AS pairs,
    count(second_input_tokens - first_input_tokens) AS with_input_tokens,
    count(*) FILTER (WHERE second_input_tokens <> first_input_tokens) AS different_input,
    avg(second_input_tokens - first_input_tokens) AS mean_more_input,
    min(second_input_tokens - first_input_tokens) AS least_more_input,
    max(second_input_tokens - first_input_tokens) AS most_more_input,
    count(*) FILTER (WHERE first_started_at < second_started_at) AS first_asked_first,
    count(*) FILTER (WHERE first_started_at > second_started_at) AS second_asked_first,
    stddev_samp(first_overhead_us) / 1e6 AS first_overhead_spread_s,
    stddev_samp(second_overhead_us) / 1e6 AS second_overhead_spread_s,
    (avg(second_overhead_us) - avg(first_overhead_us)) / 1e6 AS more_overhead_s,
    stddev_samp(first_overhead_end_us) / 1e6 AS first_overhead_end_spread_s,
    stddev_samp(second_overhead_end_us) / 1e6 AS second_overhead_end_spread_s,
    (avg(second_overhead_end_us) - avg(first_overhead_end_us)) / 1e6 AS more_overhead_end_s
FROM pairs
GROUP BY first_endpoint, second_endpoint
ORDER BY first_endpoint, second_endpoint;
