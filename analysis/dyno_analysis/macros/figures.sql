-- Functions for questions of your own, beside the view `spans`. In a DuckDB of your own: paste the whole file.

-- The exact percentile, interpolated between the two nearest values: p(ttft_s, 0.95). NULL without values.
CREATE OR REPLACE MACRO p(x, q) AS quantile_cont(x, q);

-- The throughput of requests, the sum of output tokens over the sum of seconds: tokens_per_s(output_tokens, latency_s).
CREATE OR REPLACE MACRO tokens_per_s(tokens, seconds) AS
    sum(tokens) FILTER (WHERE seconds IS NOT NULL) / sum(seconds) FILTER (WHERE tokens IS NOT NULL);

-- The share of rows for which a condition holds: share(outcome = 'ok').
CREATE OR REPLACE MACRO share(condition) AS avg(CAST(condition AS INTEGER));

-- The probability that k of n values lie below the quantile q: a term of the binomial distribution, by its logarithm.
CREATE OR REPLACE MACRO binomial_term(n, k, q) AS
    exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * ln(q) + (n - k) * ln(1 - q));

-- How many k, from 0 on, fulfil this: the probability that k or fewer of n values lie below the quantile is at most
-- `most`.
CREATE OR REPLACE MACRO binomial_rank(n, q, most) AS
    greatest(0, CAST(floor(n * q - 40 * sqrt(n * q * (1 - q))) AS BIGINT) - 20)
    + list_reduce(
        list_prepend(
            {'sum': 0.0::DOUBLE, 'rank': 0::BIGINT},
            list_transform(
                range(
                    greatest(0, CAST(floor(n * q - 40 * sqrt(n * q * (1 - q))) AS BIGINT) - 20),
                    least(n, CAST(ceil(n * q + 40 * sqrt(n * q * (1 - q))) AS BIGINT) + 20) + 1
                ),
                lambda k: {'sum': binomial_term(n, k, q)::DOUBLE, 'rank': 0::BIGINT}
            )
        ),
        lambda a, b: {
            'sum': a.sum + b.sum,
            'rank': CASE WHEN a.sum + b.sum <= most THEN a.rank + 1 ELSE a.rank END
        }
    ).rank;

-- The exact percentile with its 95 % interval by order statistics, for any distribution: p_interval(ttft_s, 0.95).
-- A bound is NULL if there are too few values for it. This holds the column in memory.
CREATE OR REPLACE MACRO p_interval(x, q) AS {
    'value': quantile_cont(x, q),
    'low': list_sort(list(x) FILTER (WHERE x IS NOT NULL))[nullif(binomial_rank(count(x), q, 0.025), 0)],
    'high': list_sort(list(x) FILTER (WHERE x IS NOT NULL))[
        count(x) + 1 - nullif(binomial_rank(count(x), 1 - q, 0.025), 0)
    ],
    'n': count(x)
};
