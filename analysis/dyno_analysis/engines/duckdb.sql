-- What the tables of sql/ call by one name, though each engine has its own: clickhouse.sql has the same names.
-- By hand: run this file first, then spans.sql, then a table.

-- The texts that occur, each once, in order, as one text; NULL without any.
CREATE OR REPLACE MACRO distinct_texts(x) AS string_agg(DISTINCT x, ', ' ORDER BY x);

-- The middle, between the two nearest values where n is even; NULL without any.
CREATE OR REPLACE MACRO exact_median(x) AS median(x);

-- p50, p90, p95 and p99, interpolated between the two nearest values. One list: each call holds its column once.
CREATE OR REPLACE MACRO exact_percentiles(x) AS quantile_cont(x, [0.5, 0.9, 0.95, 0.99]);

-- The same at or above the rank: always one of the values, since nothing lies between a number and infinity.
CREATE OR REPLACE MACRO ranked_percentiles(x) AS quantile_disc(x, [0.5, 0.9, 0.95, 0.99]);

-- The standard deviation of the sample; NULL below two values.
CREATE OR REPLACE MACRO deviation(x) AS stddev_samp(x);

-- A row for each element of the list.
CREATE OR REPLACE MACRO each_of(list) AS unnest(list);

-- The quantile, interpolated as above, of values that occur many times each: `up_to` is how many lie at or below this
-- value, `n` how many there are in all. This one is of DuckDB alone.
CREATE OR REPLACE MACRO counted_quantile(x, up_to, n, q) AS
    min(x) FILTER (WHERE up_to > floor(q * (n - 1)))
    + (min(x) FILTER (WHERE up_to > ceil(q * (n - 1))) - min(x) FILTER (WHERE up_to > floor(q * (n - 1))))
    * (q * (any_value(n) - 1) - floor(q * (any_value(n) - 1)));
