-- What the tables of sql/ call by one name, though each engine has its own: duckdb.sql has the same names and says what
-- they mean. Lambdas before a query instead of functions on the server: who only may read can report all the same.
WITH
    (x) -> nullIf(arrayStringConcat(arraySort(groupUniqArray(x)), ', '), '') AS distinct_texts,
    -- ClickHouse's own `median` is an estimate from a sample.
    (x) -> quantileExactInclusive(0.5)(x) AS exact_median,
    (x) -> quantilesExactInclusive(0.5, 0.9, 0.95, 0.99)(x) AS exact_percentiles,
    (x) -> arrayMap(
        q -> arraySort(groupArray(x))[toUInt64(greatest(1, count(x) - floor(count(x) - q * count(x))))],
        [0.5, 0.9, 0.95, 0.99]
    ) AS ranked_percentiles,
    -- The stable one: plain stddevSamp loses its digits where the mean is large beside the spread.
    (x) -> CASE WHEN count(x) > 1 THEN stddevSampStable(x) END AS deviation,
    (list) -> arrayJoin(list) AS each_of
