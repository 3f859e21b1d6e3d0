-- A row is a pair: one prompt, in one repeat of one run, that two endpoints both answered. Each pair has two rows, one
-- from each side; `WHERE first_endpoint = …` takes one of them. If a client repeated a request under the same tags,
-- its first answer makes a pair with the other endpoint's first answer, the second with the second, and so on.
-- Outside of runs a pair's two requests began within an hour of each other. There the answers to a prompt are counted
-- anew where none began for an hour.
-- The pairs are looked up for each request of the first side, so that a question about some requests reads no other pairs.
CREATE OR REPLACE VIEW pairs AS
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
FROM (
    SELECT
        run_id,
        prompt_id,
        coalesce(repeat, 1) AS repeat,
        endpoint,
        trace_id,
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
) AS a
INNER JOIN LATERAL (
    WITH wanted AS (SELECT a.run_id AS run, a.prompt_id AS prompt, a.repeat AS turn_number),
    asked AS (
        SELECT
            answered.*,
            run_id IS NULL AND coalesce(
                started_at - lag(started_at) OVER (PARTITION BY run, prompt, turn_number ORDER BY started_at, span_id)
                    > INTERVAL 1 HOUR,
                false
            ) AS is_anew
        FROM wanted
        INNER JOIN (
            SELECT
                run_id,
                prompt_id,
                coalesce(repeat, 1) AS repeat,
                endpoint,
                trace_id,
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
        ) AS answered
            ON run_id IS NOT DISTINCT FROM run AND prompt_id = prompt AND repeat = turn_number
    ),
    occasions AS (
        SELECT
            *,
            count(*) FILTER (is_anew) OVER (PARTITION BY run_id, prompt_id, repeat ORDER BY started_at, span_id) AS occasion
        FROM asked
    ),
    turns AS MATERIALIZED (
        SELECT
            *,
            row_number() OVER (
                PARTITION BY run_id, prompt_id, repeat, occasion, endpoint
                ORDER BY started_at, span_id
            ) AS turn
        FROM occasions
    )
    SELECT mine.trace_id AS own_trace_id, mine.span_id AS own_span_id, theirs.*
    FROM turns AS mine
    INNER JOIN turns AS theirs
        ON mine.occasion = theirs.occasion
        AND mine.turn = theirs.turn
        AND mine.endpoint <> theirs.endpoint
    WHERE
        mine.run_id IS NOT NULL
        OR abs(epoch_us(mine.started_at) - epoch_us(theirs.started_at)) <= 3_600_000_000
) AS b ON b.own_span_id = a.span_id AND b.own_trace_id = a.trace_id;
