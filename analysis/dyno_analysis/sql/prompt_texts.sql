-- A row is one run's prompt set: how many prompts it holds, how many of their texts are distinct, and of which domains
-- they are. Needs the view `prompts` (see answers.sql).
SELECT
    run_id,
    count(*) AS prompts,
    count(DISTINCT prompt) AS distinct_prompts,
    string_agg(DISTINCT domain, ', ' ORDER BY domain) AS domains
FROM prompts
GROUP BY run_id
ORDER BY run_id;
