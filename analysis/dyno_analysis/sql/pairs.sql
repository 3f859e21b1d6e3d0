-- A row is a pair: one prompt, in one repeat of one run, that two endpoints both answered. Each pair has two rows, one
-- from each side; `WHERE first_endpoint = …` takes one of them. If a client repeated a request under the same tags,
-- its first answer makes a pair with the other endpoint's first answer, the second with the second, and so on.
-- Outside of runs a pair's two requests began within an hour of each other. There the answers to a prompt are counted
-- anew where none began for an hour.
-- Both sides are joined by equality, so that a filter on a run or a prompt reaches both before anything is counted.
CREATE OR REPLACE VIEW pairs AS
WITH answered AS NOT MATERIALIZED (
    SELECT
        run_id,
        prompt_id,
        coalesce(repeat, 1) AS repeat,
        endpoint,
        span_id,
        started_at,
        latency_s,
        ttft_s,
        tpot_s,
        input_tokens,
        output_tokens,
        overhead_us,
        overhead_end_us
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND prompt_id IS NOT NULL AND endpoint IS NOT NULL
),
of_runs AS NOT MATERIALIZED (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY run_id, prompt_id, repeat, endpoint
            ORDER BY started_at, span_id
        ) AS turn
    FROM answered
    WHERE run_id IS NOT NULL
),
asked AS NOT MATERIALIZED (
    SELECT
        *,
        coalesce(
            started_at - lag(started_at) OVER (PARTITION BY prompt_id, repeat ORDER BY started_at, span_id)
                > INTERVAL 1 HOUR,
            false
        ) AS is_anew
    FROM answered
    WHERE run_id IS NULL
),
occasions AS NOT MATERIALIZED (
    SELECT
        *,
        count(*) FILTER (is_anew) OVER (PARTITION BY prompt_id, repeat ORDER BY started_at, span_id) AS occasion
    FROM asked
),
by_hand AS NOT MATERIALIZED (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY prompt_id, repeat, occasion, endpoint
            ORDER BY started_at, span_id
        ) AS turn
    FROM occasions
)
SELECT
    a.run_id,
    a.prompt_id,
    a.repeat,
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
FROM of_runs AS a
INNER JOIN of_runs AS b
    ON a.run_id = b.run_id
    AND a.prompt_id = b.prompt_id
    AND a.repeat = b.repeat
    AND a.turn = b.turn
    AND a.endpoint <> b.endpoint
UNION ALL
SELECT
    CAST(NULL AS VARCHAR) AS run_id,
    a.prompt_id,
    a.repeat,
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
FROM by_hand AS a
INNER JOIN by_hand AS b
    ON a.prompt_id = b.prompt_id
    AND a.repeat = b.repeat
    AND a.occasion = b.occasion
    AND a.turn = b.turn
    AND a.endpoint <> b.endpoint
WHERE abs(epoch_us(a.started_at) - epoch_us(b.started_at)) <= 3_600_000_000;
