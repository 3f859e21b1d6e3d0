-- The functions that the tables of sql/ call, in DuckDB's SQL; clickhouse.sql has the same names.
-- By hand: run this file first, then spans.sql, then a table.

-- The different texts in alphabetical order, joined by commas; NULL if there are none.
CREATE OR REPLACE MACRO distinct_texts(x) AS string_agg(DISTINCT x, ', ' ORDER BY x);

-- The median: the mean of the two middle values if n is even; NULL without values.
CREATE OR REPLACE MACRO exact_median(x) AS median(x);

-- p50, p90, p95 and p99, interpolated between the two nearest values. They are one list, since each call holds its
-- column in memory.
CREATE OR REPLACE MACRO exact_percentiles(x) AS quantile_cont(x, [0.5, 0.9, 0.95, 0.99]);

-- The same four, each the value at or above the rank: values may be infinite, and then can't be interpolated.
CREATE OR REPLACE MACRO ranked_percentiles(x) AS quantile_disc(x, [0.5, 0.9, 0.95, 0.99]);

-- The standard deviation of the sample; NULL below two values.
CREATE OR REPLACE MACRO deviation(x) AS stddev_samp(x);

-- A row for each element of the list.
CREATE OR REPLACE MACRO each_of(list) AS unnest(list);

-- The quantile, interpolated as above, of values that each occur many times. `up_to` is how many are at or below this
-- value, `n` how many there are in all. Only DuckDB has this one.
CREATE OR REPLACE MACRO counted_quantile(x, up_to, n, q) AS
    min(x) FILTER (WHERE up_to > floor(q * (n - 1)))
    + (min(x) FILTER (WHERE up_to > ceil(q * (n - 1))) - min(x) FILTER (WHERE up_to > floor(q * (n - 1))))
    * (q * (any_value(n) - 1) - floor(q * (any_value(n) - 1)));
