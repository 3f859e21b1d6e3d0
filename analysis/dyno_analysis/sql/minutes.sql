-- A row is one minute of one endpoint, model and operation, with the requests that began in it, without warm-ups. Times
-- are those of ok requests, in seconds. Percentiles are exact, but mean little if `ok` is small. Failed: neither ok, nor
-- cancelled by the client, nor rejected by the proxy. All that a request used and gave is booked in the minute in which it
-- began, its last token too; token_minutes.sql books tokens when they came.
CREATE OR REPLACE VIEW minutes AS
SELECT
    date_trunc('minute', started_at) AS minute,
    endpoint,
    model,
    operation,
    count(*) AS requests,
    count(*) FILTER (WHERE outcome = 'ok') AS ok,
    count(*) FILTER (WHERE outcome = 'client_cancelled') AS cancelled,
    count(*) FILTER (WHERE outcome = 'rejected') AS rejected,
    count(*) FILTER (WHERE failed) AS failed,
    sum(input_tokens) FILTER (WHERE outcome = 'ok') AS input_tokens,
    sum(output_tokens) FILTER (WHERE outcome = 'ok') AS output_tokens,
    quantile_cont(latency_s, 0.5) FILTER (WHERE outcome = 'ok') AS latency_p50_s,
    quantile_cont(latency_s, 0.95) FILTER (WHERE outcome = 'ok') AS latency_p95_s,
    quantile_cont(ttft_s, 0.5) FILTER (WHERE outcome = 'ok') AS ttft_p50_s,
    quantile_cont(ttft_s, 0.95) FILTER (WHERE outcome = 'ok') AS ttft_p95_s,
    quantile_cont(tpot_s, 0.5) FILTER (WHERE outcome = 'ok') AS tpot_p50_s,
    max(overhead_us) AS max_overhead_us,
    bool_or(simulated) AS simulated
FROM spans
WHERE NOT warmup AND operation IS NOT NULL
GROUP BY ALL;
