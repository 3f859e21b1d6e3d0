-- A row is one request of `spans`, with all its columns and `under_way`: how many requests were under way at its endpoint
-- when it began, itself included. The view `concurrency` says which requests count.
CREATE OR REPLACE VIEW spans_loaded AS
SELECT request.* EXCLUDE (hour), counted.open AS under_way
FROM (FROM spans SELECT *, epoch_us(started_at) // 3_600_000_000 AS hour) AS request
LEFT JOIN LATERAL (FROM open_in_hour(request.endpoint, request.hour)) AS counted ON counted.changed_at = request.started_at;
