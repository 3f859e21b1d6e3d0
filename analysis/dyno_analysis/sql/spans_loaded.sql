-- A row is one request of `spans`, with all its columns and `under_way`: how many requests were under way at its
-- endpoint when it began, itself included; NULL if its end isn't known. By hand: run concurrency.sql first.
CREATE OR REPLACE VIEW spans_loaded AS
SELECT
    spans.*,
    CASE WHEN spans.ended_at >= spans.started_at THEN concurrency.open END AS under_way
FROM spans
LEFT JOIN concurrency
    ON concurrency.changed_at = spans.started_at
    AND concurrency.endpoint IS NOT DISTINCT FROM spans.endpoint;
