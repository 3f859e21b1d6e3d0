-- A row is one ok request with the number of its prompt and of its block of time, in the order of time. A new block begins
-- where no request was under way for more than ten times the median of such pauses, and 1 s at least.
WITH sent AS (
    SELECT
        endpoint,
        prompt_id,
        started_at,
        span_id,
        latency_s,
        epoch_us(started_at) - epoch_us(max(ended_at) OVER (
            ORDER BY started_at, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )) AS pause_us
    FROM spans
    WHERE
        NOT warmup
        AND outcome = 'ok'
        AND endpoint IS NOT NULL
        AND prompt_id IS NOT NULL
        AND latency_s IS NOT NULL
),
usual AS (SELECT greatest(10 * median(pause_us), 1_000_000) AS pause_us FROM sent),
numbered AS (
    SELECT
        sent.*,
        count(*) FILTER (WHERE sent.pause_us > usual.pause_us) OVER (ORDER BY started_at, span_id ROWS UNBOUNDED PRECEDING)
            AS block
    FROM sent, usual
)
SELECT
    endpoint,
    dense_rank() OVER (ORDER BY prompt_id) - 1 AS prompt,
    block,
    latency_s
FROM numbered
ORDER BY started_at, span_id;
