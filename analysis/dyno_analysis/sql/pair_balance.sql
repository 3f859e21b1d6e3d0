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
    count(*) FILTER (WHERE first_started_at > second_started_at) AS second_asked_first
FROM pairs
GROUP BY first_endpoint, second_endpoint
ORDER BY first_endpoint, second_endpoint;
