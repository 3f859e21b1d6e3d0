-- A row is one training run of an imported log.
-- Rates are in samples per second, times in seconds. `batch_size` is in samples. What a log doesn't say is NULL.
-- In a DuckDB of your own: put your folder in place of 'spans' below, once, and paste the whole file.
CREATE OR REPLACE VIEW training AS
WITH logged AS (
    SELECT
        *,
        list_filter(steps, lambda entry: entry.phase = 'train') AS train_steps,
        -- The steps that this run made: a restarted one goes on from a checkpoint's step, which may be unknown.
        CASE WHEN start_step IS NULL AND restarted THEN NULL
            ELSE list_filter(steps, lambda entry: entry.phase = 'train')[-1].step - coalesce(start_step, 0)
        END AS own_steps
    FROM read_json(
        'spans/training/*.jsonl',
        format = 'newline_delimited',
        ignore_errors = true,
        columns = {
            training_id: 'VARCHAR',
            imported_from: 'VARCHAR',
            job_id: 'VARCHAR',
            systems: 'INTEGER',
            started_at_us: 'BIGINT',
            finished_at_us: 'BIGINT',
            samples: 'BIGINT',
            start_step: 'BIGINT',
            restarted: 'BOOLEAN',
            total_s: 'DOUBLE',
            steps: 'STRUCT(phase VARCHAR, logged_at_us BIGINT, device VARCHAR, step BIGINT, loss DOUBLE, rate DOUBLE,
                global_rate DOUBLE)[]'
        }
    )
    WHERE training_id IS NOT NULL
)
SELECT
    training_id,
    imported_from,
    job_id,
    systems,
    train_steps[-1].device AS device,
    make_timestamptz(started_at_us) AS started_at,
    make_timestamptz(finished_at_us) AS finished_at,
    train_steps[-1].step AS steps,
    samples,
    CASE WHEN own_steps > 0 AND samples % own_steps = 0 THEN samples // own_steps END AS batch_size,
    train_steps[-1].global_rate AS global_rate,
    total_s,
    samples / nullif(total_s, 0) AS samples_per_s,
    -- The time that isn't training: compiling, programming the device, saving.
    nullif(total_s, 0) - samples / nullif(train_steps[-1].global_rate, 0) AS outside_s,
    train_steps[-1].loss AS final_loss,
    steps AS progress
FROM logged;
