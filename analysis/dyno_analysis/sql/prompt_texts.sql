-- A row is one run's prompt set: how many prompts it has, how many distinct texts, and the prompts' domains.
-- Needs the view `prompts` (see answers.sql).
SELECT
    run_id,
    count(*) AS prompts,
    count(DISTINCT prompt) AS distinct_prompts,
    string_agg(DISTINCT domain, ', ' ORDER BY domain) AS domains
FROM prompts
GROUP BY run_id
ORDER BY run_id;
