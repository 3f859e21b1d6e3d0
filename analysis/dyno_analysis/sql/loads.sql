-- A row is one endpoint under one load: what it was offered, and what it did meanwhile. Only requests whose client said
-- under which load it sent them. Latency and its parts are those of ok requests that count.
-- Due latency counts from when an open loop's request was due, so that a driver's own delay can't hide a slow endpoint.
-- Throughput is over the time in which requests that count were under way: in a closed loop each stretch of it, in an
-- open loop from the first to the last. Those that only fill the load (warm-ups) made tokens in that time as well: they
-- count for the share of them that lies in it.
WITH asked AS (
    SELECT
        run_id,
        endpoint,
        load_concurrency,
        load_rate_per_s,
        warmup,
        outcome,
        started_at AS begins,
        ended_at AS ends,
        greatest(epoch_us(ended_at) - epoch_us(started_at), 1) AS us,
        latency_s,
        latency_s + send_lag_s AS due_latency_s,
        ttft_s,
        tpot_s,
        output_tokens
    FROM spans
    WHERE
        endpoint IS NOT NULL
        AND ended_at IS NOT NULL
        AND (load_concurrency IS NOT NULL OR load_rate_per_s IS NOT NULL)
),
marked AS (
    SELECT
        *,
        load_rate_per_s IS NULL
        AND begins > max(ends) OVER (
            PARTITION BY run_id, endpoint, load_concurrency, load_rate_per_s
            ORDER BY begins, ends
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS opens
    FROM asked
    WHERE NOT warmup
),
numbered AS (
    SELECT
        *,
        count(*) FILTER (WHERE opens) OVER (
            PARTITION BY run_id, endpoint, load_concurrency, load_rate_per_s
            ORDER BY begins, ends
            ROWS UNBOUNDED PRECEDING
        ) AS stretch
    FROM marked
),
stretches AS (
    SELECT
        run_id,
        endpoint,
        load_concurrency,
        load_rate_per_s,
        min(begins) AS begins,
        max(ends) AS ends
    FROM numbered
    GROUP BY run_id, endpoint, load_concurrency, load_rate_per_s, stretch
),
shares AS (
    SELECT
        a.endpoint,
        a.load_concurrency,
        a.load_rate_per_s,
        a.outcome = 'ok' AS is_ok,
        a.output_tokens,
        (epoch_us(least(a.ends, s.ends)) - epoch_us(greatest(a.begins, s.begins))) / a.us AS share
    FROM asked AS a
    INNER JOIN stretches AS s
        ON a.run_id IS NOT DISTINCT FROM s.run_id
        AND a.endpoint = s.endpoint
        AND a.load_concurrency IS NOT DISTINCT FROM s.load_concurrency
        AND a.load_rate_per_s IS NOT DISTINCT FROM s.load_rate_per_s
        AND a.begins <= s.ends
        AND a.ends >= s.begins
),
made AS (
    SELECT
        endpoint,
        load_concurrency,
        load_rate_per_s,
        sum(share) FILTER (WHERE is_ok) AS requests,
        sum(share * output_tokens) FILTER (WHERE is_ok) AS tokens
    FROM shares
    GROUP BY ALL
),
taken AS (
    SELECT
        endpoint,
        load_concurrency,
        load_rate_per_s,
        greatest(sum(epoch_us(ends) - epoch_us(begins)), 1) / 1e6 AS s
    FROM stretches
    GROUP BY ALL
)
SELECT
    c.endpoint,
    c.load_concurrency,
    c.load_rate_per_s,
    count(*) AS requests,
    count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
    any_value(made.requests / taken.s) AS ok_per_s,
    any_value(made.tokens / taken.s) AS output_tokens_per_s,
    quantile_cont(c.ttft_s, 0.5) FILTER (WHERE c.outcome = 'ok') AS ttft_p50_s,
    quantile_cont(c.ttft_s, 0.95) FILTER (WHERE c.outcome = 'ok') AS ttft_p95_s,
    quantile_cont(c.tpot_s, 0.5) FILTER (WHERE c.outcome = 'ok') AS tpot_p50_s,
    quantile_cont(c.latency_s, 0.5) FILTER (WHERE c.outcome = 'ok') AS latency_p50_s,
    quantile_cont(c.latency_s, 0.95) FILTER (WHERE c.outcome = 'ok') AS latency_p95_s,
    quantile_cont(c.latency_s, 0.99) FILTER (WHERE c.outcome = 'ok') AS latency_p99_s,
    quantile_cont(c.ttft_s, 0.99) FILTER (WHERE c.outcome = 'ok') AS ttft_p99_s,
    quantile_cont(c.tpot_s, 0.9) FILTER (WHERE c.outcome = 'ok') AS tpot_p90_s,
    quantile_cont(c.tpot_s, 0.95) FILTER (WHERE c.outcome = 'ok') AS tpot_p95_s,
    quantile_cont(c.tpot_s, 0.99) FILTER (WHERE c.outcome = 'ok') AS tpot_p99_s,
    any_value(taken.s) AS window_s,
    quantile_cont(c.due_latency_s, 0.5) FILTER (WHERE c.outcome = 'ok') AS due_latency_p50_s,
    quantile_cont(c.due_latency_s, 0.95) FILTER (WHERE c.outcome = 'ok') AS due_latency_p95_s
FROM numbered AS c
INNER JOIN made
    ON c.endpoint = made.endpoint
    AND c.load_concurrency IS NOT DISTINCT FROM made.load_concurrency
    AND c.load_rate_per_s IS NOT DISTINCT FROM made.load_rate_per_s
INNER JOIN taken
    ON c.endpoint = taken.endpoint
    AND c.load_concurrency IS NOT DISTINCT FROM taken.load_concurrency
    AND c.load_rate_per_s IS NOT DISTINCT FROM taken.load_rate_per_s
GROUP BY c.endpoint, c.load_concurrency, c.load_rate_per_s
ORDER BY c.load_rate_per_s NULLS FIRST, c.load_concurrency, c.endpoint;
