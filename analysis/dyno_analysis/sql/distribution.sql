-- A row is one endpoint and how the latencies of its ok requests spread. An outlier lies more than 1.5 interquartile
-- ranges outside the quartiles (Tukey's fences). Coefficient of variation: sample standard deviation over mean.
WITH measured AS (
    SELECT endpoint, latency_s
    FROM spans
    WHERE NOT warmup AND outcome = 'ok' AND endpoint IS NOT NULL AND latency_s IS NOT NULL
),
quartiles AS (
    SELECT endpoint, quantile_cont(latency_s, 0.25) AS q1_s, quantile_cont(latency_s, 0.75) AS q3_s
    FROM measured
    GROUP BY endpoint
)
SELECT
    endpoint,
    count(*) AS n,
    var_samp(latency_s) AS variance_s2,
    stddev_samp(latency_s) / nullif(avg(latency_s), 0) AS coefficient_of_variation,
    any_value(q1_s) AS q1_s,
    any_value(q3_s) AS q3_s,
    count(*) FILTER (WHERE latency_s > q3_s + 1.5 * (q3_s - q1_s)) AS high_outliers,
    count(*) FILTER (WHERE latency_s < q1_s - 1.5 * (q3_s - q1_s)) AS low_outliers
FROM measured
INNER JOIN quartiles USING (endpoint)
GROUP BY endpoint
ORDER BY endpoint;
