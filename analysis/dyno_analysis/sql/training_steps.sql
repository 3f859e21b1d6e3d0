-- A row is one progress line of an imported training log; `phase` says whether of training or of evaluation.
-- In a DuckDB of your own: paste training.sql first.
CREATE OR REPLACE VIEW training_steps AS
SELECT
    training_id,
    imported_from,
    entry.phase AS phase,
    entry.step AS step,
    make_timestamptz(entry.logged_at_us) AS logged_at,
    entry.loss AS loss,
    entry.rate AS rate,
    entry.global_rate AS global_rate
FROM (SELECT training_id, imported_from, unnest(progress) AS entry FROM training);
