-- The functions that the tables of sql/ call, in ClickHouse's SQL. duckdb.sql has the same names and says what they
-- mean. They are lambdas before each query, not functions on the server, so that a user who may only read can report.
WITH
    (x) -> nullIf(arrayStringConcat(arraySort(groupUniqArray(x)), ', '), '') AS distinct_texts,
    -- ClickHouse's own `median` is an estimate from a sample.
    (x) -> quantileExactInclusive(0.5)(x) AS exact_median,
    (x) -> quantilesExactInclusive(0.5, 0.9, 0.95, 0.99)(x) AS exact_percentiles,
    (x) -> arrayMap(
        q -> arraySort(groupArray(x))[toUInt64(greatest(1, count(x) - floor(count(x) - q * count(x))))],
        [0.5, 0.9, 0.95, 0.99]
    ) AS ranked_percentiles,
    -- The stable version: stddevSamp loses digits if the mean is much larger than the spread.
    (x) -> CASE WHEN count(x) > 1 THEN stddevSampStable(x) END AS deviation,
    (list) -> arrayJoin(list) AS each_of
