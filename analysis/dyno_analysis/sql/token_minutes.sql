-- A row is one minute of one endpoint, model and operation, with the output that came in it, without warm-ups: the tokens
-- of ok answers, each in the minute in which it came. An answer's tokens are spread evenly over its chunks, so a minute
-- may have a part of a token. Without chunk times they are spread evenly from the first token to the last, and an answer
-- that wasn't streamed came when it ended. The sum over all minutes is that of `minutes`.
CREATE OR REPLACE VIEW token_minutes AS
WITH answers AS (
    SELECT
        endpoint,
        model,
        operation,
        simulated,
        output_tokens,
        chunk_offsets_us,
        epoch_us(started_at) AS start_us,
        -- Nobody waits longer than a day for an answer; a greater number is an error, and isn't spread.
        coalesce(first_token_us, CAST(round(latency_s * 1e6) AS BIGINT), 0) AS first_us,
        coalesce(last_token_us, first_token_us, CAST(round(latency_s * 1e6) AS BIGINT), 0) AS last_us
    FROM spans
    WHERE NOT warmup AND operation IS NOT NULL AND outcome = 'ok' AND output_tokens IS NOT NULL
        AND started_at IS NOT NULL
),
placed AS (
    SELECT
        *,
        (start_us + greatest(0, least(last_us, 86_400_000_000))) // 60_000_000 AS last_minute,
        CASE
            WHEN last_us > 86_400_000_000 THEN last_minute
            ELSE (start_us + greatest(0, least(first_us, last_us))) // 60_000_000
        END AS first_minute
    FROM answers
),
parts AS (
    -- Most answers come within one minute, and their lists of chunks needn't be read.
    SELECT endpoint, model, operation, simulated, last_minute AS number, CAST(output_tokens AS DOUBLE) AS tokens
    FROM placed
    WHERE first_minute = last_minute
    UNION ALL
    SELECT
        endpoint,
        model,
        operation,
        simulated,
        number,
        output_tokens * CASE
            WHEN chunks > 0
                THEN len(list_filter(
                    chunk_offsets_us,
                    lambda offset_us:
                        least(greatest((start_us + offset_us) // 60_000_000, first_minute), last_minute) = number
                )) / chunks
            ELSE
                (least(start_us + last_us, (number + 1) * 60_000_000) - greatest(start_us + first_us, number * 60_000_000))
                / (last_us - first_us)
        END
    FROM (
        FROM placed
        SELECT *, len(chunk_offsets_us) AS chunks, unnest(generate_series(first_minute, last_minute)) AS number
        WHERE first_minute < last_minute
    )
)
SELECT
    make_timestamptz(number * 60_000_000) AS minute,
    endpoint,
    model,
    operation,
    sum(tokens) AS output_tokens,
    sum(tokens) / 60 AS output_tokens_per_s,
    count(*) FILTER (WHERE tokens > 0) AS answers,
    bool_or(simulated) AS simulated
FROM parts
GROUP BY number, endpoint, model, operation;
