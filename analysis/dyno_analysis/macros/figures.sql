-- Functions for questions of your own, beside the view `spans`. In a DuckDB of your own: paste the whole file.
-- They are macros, and DuckDB gives macros neither FILTER nor a place in PIVOT. So some take a condition as their last
-- argument, which does the same: p(ttft_s, 0.95, endpoint = 'metis').

-- The exact percentile, interpolated between the two nearest values: p(ttft_s, 0.95). NULL without values.
CREATE OR REPLACE MACRO p(x, q) AS
    quantile_cont(x, q),
    (x, q, condition) AS quantile_cont(x, q) FILTER (WHERE condition);

-- The throughput of requests, the sum of output tokens over the sum of seconds: tokens_per_s(output_tokens, latency_s).
-- Only rows that have both are in the sums.
CREATE OR REPLACE MACRO tokens_per_s(tokens, seconds) AS
    sum(tokens) FILTER (WHERE seconds IS NOT NULL) / nullif(sum(seconds) FILTER (WHERE tokens IS NOT NULL), 0),
    (tokens, seconds, condition) AS
    sum(tokens) FILTER (WHERE seconds IS NOT NULL AND condition)
    / nullif(sum(seconds) FILTER (WHERE tokens IS NOT NULL AND condition), 0);

-- The share of all rows that fulfil a condition: share(ttft_s <= 0.3). Where that can't be said, the row doesn't fulfil it:
-- a failed request had no first token within 0.3 s.
CREATE OR REPLACE MACRO share(condition) AS
    avg(CASE WHEN condition THEN 1.0::DOUBLE ELSE 0.0::DOUBLE END),
    (condition, among) AS avg(CASE WHEN condition THEN 1.0::DOUBLE ELSE 0.0::DOUBLE END) FILTER (WHERE among);

-- The share of those rows in which the condition is known: share_known(gap_s = 0).
CREATE OR REPLACE MACRO share_known(condition) AS
    avg(CASE WHEN condition THEN 1.0::DOUBLE WHEN NOT condition THEN 0.0::DOUBLE END),
    (condition, among) AS
    avg(CASE WHEN condition THEN 1.0::DOUBLE WHEN NOT condition THEN 0.0::DOUBLE END) FILTER (WHERE among);

-- Whether a limit is kept: true if x is known and not above it, else false. Of a row, so that several go together:
-- share(under(ttft_s, 0.3) AND under(tpot_s, 0.05)).
CREATE OR REPLACE MACRO under(x, most) AS coalesce(x <= most, false);

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
CREATE OR REPLACE MACRO p_of_sorted(x, q) AS {
    'value': quantile_cont(x, q),
    'low': list_sort(list(x) FILTER (WHERE x IS NOT NULL))[nullif(binomial_rank(count(x), q, 0.025), 0)],
    'high': list_sort(list(x) FILTER (WHERE x IS NOT NULL))[
        count(x) + 1 - nullif(binomial_rank(count(x), 1 - q, 0.025), 0)
    ],
    'n': count(x)
};
CREATE OR REPLACE MACRO p_interval(x, q) AS
    p_of_sorted(x, q),
    (x, q, condition) AS p_of_sorted(CASE WHEN condition THEN x END, q);

-- The 97.5 % quantile of Student's t with `df` degrees of freedom, by the expansion of Fisher and Cornish (Abramowitz and
-- Stegun 26.7.5). From df = 5 on it is right to 0.02 %.
CREATE OR REPLACE MACRO student_t_975(df) AS
    1.959963985 + 2.372271 / df + 2.822506 / df ** 2 + 2.555850 / df ** 3 + 1.589536 / df ** 4;

-- Half the width of the 95 % interval of a difference of two means, of different samples with different variances.
-- Source: B. L. Welch, The generalization of Student's problem, Biometrika 34 (1947).
CREATE OR REPLACE MACRO log_margin(a_var, a_n, b_var, b_n) AS
    CASE
        WHEN a_n < 6 OR b_n < 6 THEN NULL
        WHEN a_var + b_var = 0 THEN 0.0::DOUBLE
        ELSE
            sqrt(a_var / a_n + b_var / b_n)
            * student_t_975(
                (a_var / a_n + b_var / b_n) ** 2
                / ((a_var / a_n) ** 2 / (a_n - 1) + (b_var / b_n) ** 2 / (b_n - 1))
            )
    END;

-- The ratio of two geometric means with its 95 % interval, from the logarithms' means, variances and numbers (Welch's t).
CREATE OR REPLACE MACRO ratio_of_logs(a_mean, a_var, a_n, b_mean, b_var, b_n) AS {
    'ratio': exp(a_mean - b_mean),
    'low': exp(a_mean - b_mean - log_margin(a_var, a_n, b_var, b_n)),
    'high': exp(a_mean - b_mean + log_margin(a_var, a_n, b_var, b_n)),
    'n_a': a_n,
    'n_b': b_n
};

-- How much larger or smaller the typical value of a is than that of b, as their ratio with its 95 % interval, where the two
-- are different requests: before and after a change, say. NULL and values that aren't above 0 are left out.
--     ratio_interval(CASE WHEN started_at >= T THEN latency_s END, CASE WHEN started_at < T THEN latency_s END)
-- The typical value is the geometric mean, as in the report's verdicts. The bounds are NULL below 6 values on a side.
CREATE OR REPLACE MACRO ratio_interval(a, b) AS ratio_of_logs(
    avg(ln(CASE WHEN a > 0 AND isfinite(a::DOUBLE) THEN a END)),
    var_samp(ln(CASE WHEN a > 0 AND isfinite(a::DOUBLE) THEN a END)),
    count(CASE WHEN a > 0 AND isfinite(a::DOUBLE) THEN a END),
    avg(ln(CASE WHEN b > 0 AND isfinite(b::DOUBLE) THEN b END)),
    var_samp(ln(CASE WHEN b > 0 AND isfinite(b::DOUBLE) THEN b END)),
    count(CASE WHEN b > 0 AND isfinite(b::DOUBLE) THEN b END)
);
