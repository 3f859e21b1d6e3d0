-- A row is a pair: one prompt, in one repeat of one run, that two endpoints both answered. Each pair has two rows, one
-- from each side; `WHERE first_endpoint = …` takes one of them. If a client repeated a request under the same tags,
-- its first answer makes a pair with the other endpoint's first answer, the second with the second, and so on.
CREATE OR REPLACE VIEW pairs AS
WITH answered AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY run_id, prompt_id, coalesce(repeat, 1), endpoint
            ORDER BY started_at, span_id
        ) AS turn
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND prompt_id IS NOT NULL AND endpoint IS NOT NULL
)
SELECT
    a.run_id,
    a.prompt_id,
    coalesce(a.repeat, 1) AS repeat,
    a.endpoint AS first_endpoint,
    b.endpoint AS second_endpoint,
    a.started_at AS first_started_at,
    b.started_at AS second_started_at,
    a.latency_s AS first_latency_s,
    b.latency_s AS second_latency_s,
    a.ttft_s AS first_ttft_s,
    b.ttft_s AS second_ttft_s,
    a.tpot_s AS first_tpot_s,
    b.tpot_s AS second_tpot_s,
    a.input_tokens AS first_input_tokens,
    b.input_tokens AS second_input_tokens,
    a.output_tokens AS first_output_tokens,
    b.output_tokens AS second_output_tokens,
    a.overhead_us AS first_overhead_us,
    b.overhead_us AS second_overhead_us,
    a.overhead_end_us AS first_overhead_end_us,
    b.overhead_end_us AS second_overhead_end_us
FROM answered AS a
INNER JOIN answered AS b
    ON a.run_id IS NOT DISTINCT FROM b.run_id
    AND a.prompt_id = b.prompt_id
    AND coalesce(a.repeat, 1) = coalesce(b.repeat, 1)
    AND a.turn = b.turn
    AND a.endpoint <> b.endpoint;
