-- A row is one collected span, which an instrumented client, gateway or engine sent to `dyno collect`. The proxy's own
-- requests aren't here but in `spans`. Each machine stamps by its own clock, so compare durations, not times.
-- In a DuckDB of your own: put your folder in place of 'spans' below, four times, and paste the whole file.
-- The files have the columns of spans.sql and are read in the same way; spans.sql says how.

-- part: view
CREATE OR REPLACE VIEW collected_spans AS
-- begin: how the files are read, from spans.sql, written by make sql
-- part: counting
WITH listed AS MATERIALIZED (
    SELECT
        file AS filename,
        -- Files with the times of their rows in the name come before others that hold the same rows.
        regexp_matches(file, '\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_[A-Za-z0-9_]+-\d{12}-') AS is_timed,
        regexp_extract(file, '(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})(-(\d{12})\.parquet|\.jsonl)$', 1) AS writer,
        TRY_CAST(regexp_extract(file, '(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})(-(\d{12})\.parquet|\.jsonl)$', 2) AS BIGINT) AS first,
        TRY_CAST(regexp_extract(file, '(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})(-(\d{12})\.parquet|\.jsonl)$', 4) AS BIGINT) AS last
    FROM glob('spans/collected/*')
),
-- The rows that a file holds: by its name, or, if it is merged from several writers' files, as it says itself.
said AS MATERIALIZED (
    SELECT file_name AS filename, unnest(string_split(decode(value), ',')) AS part
    FROM parquet_kv_metadata('spans/collected/*.parquet')
    WHERE decode(key) = 'dyno_rows'
),
held AS MATERIALIZED (
    SELECT filename, is_timed, last IS NULL AS is_journal, writer, first, coalesce(last, 1000000000000) AS last
    FROM listed
    WHERE first IS NOT NULL AND (last IS NULL OR NOT starts_with(writer, 'merged_'))
    UNION ALL
    SELECT
        filename,
        is_timed,
        false,
        regexp_extract(part, '(.+):(\d+)-(\d+)', 1),
        CAST(regexp_extract(part, '(.+):(\d+)-(\d+)', 2) AS BIGINT),
        CAST(regexp_extract(part, '(.+):(\d+)-(\d+)', 3) AS BIGINT)
    FROM listed JOIN said USING (filename)
    WHERE last IS NOT NULL AND starts_with(writer, 'merged_')
),
-- Of files that hold the same row, the largest Parquet file counts for it.
counting AS MATERIALIZED (
    FROM held
    SELECT
        filename,
        (any_value(is_journal), -sum(last - first + 1), NOT any_value(is_timed), filename) AS rank
    GROUP BY filename
),
elsewhere AS MATERIALIZED (
    SELECT one.filename, one.writer, greatest(one.first, other.first) AS first, least(one.last, other.last) AS last
    FROM held AS one
    JOIN held AS other ON other.writer = one.writer AND other.first <= one.last AND other.last >= one.first
    JOIN counting AS of_one ON of_one.filename = one.filename
    JOIN counting AS of_other ON of_other.filename = other.filename
    WHERE of_other.rank < of_one.rank AND NOT other.is_journal
),
-- part: journal
journal AS (
    SELECT
        make_timestamptz(started_at_us) AS started_at,
        * EXCLUDE (started_at_us),
        regexp_extract(filename, '([A-Za-z0-9_]+)-\d{12}[^/]*$', 1) AS writer
    FROM read_json(
        'spans/collected/*.jsonl',
        format = 'newline_delimited',
        ignore_errors = true,
        filename = true,
        columns = {
            v: 'INTEGER',
            seq: 'BIGINT',
            trace_id: 'VARCHAR',
            span_id: 'VARCHAR',
            parent_span_id: 'VARCHAR',
            name: 'VARCHAR',
            kind: 'VARCHAR',
            started_at_us: 'BIGINT',
            duration_us: 'BIGINT',
            operation: 'VARCHAR',
            provider: 'VARCHAR',
            model: 'VARCHAR',
            reasoning_level: 'VARCHAR',
            response_model: 'VARCHAR',
            response_id: 'VARCHAR',
            finish_reasons: 'VARCHAR[]',
            input_tokens: 'BIGINT',
            output_tokens: 'BIGINT',
            reasoning_tokens: 'BIGINT',
            cached_tokens: 'BIGINT',
            method: 'VARCHAR',
            status: 'INTEGER',
            request_bytes: 'BIGINT',
            response_bytes: 'BIGINT',
            path: 'VARCHAR',
            user_agent: 'VARCHAR',
            client_address: 'VARCHAR',
            error_type: 'VARCHAR',
            endpoint: 'VARCHAR',
            client: 'VARCHAR',
            user: 'VARCHAR',
            session_id: 'VARCHAR',
            request_id: 'VARCHAR',
            sampled: 'BOOLEAN',
            tracestate: 'VARCHAR',
            outcome: 'VARCHAR',
            streamed: 'BOOLEAN',
            simulated: 'BOOLEAN',
            usage_source: 'VARCHAR',
            first_chunk_tokens: 'BIGINT',
            first_read_tokens: 'BIGINT',
            choice_count: 'BIGINT',
            reasoning_streamed: 'BOOLEAN',
            connection_reused: 'BOOLEAN',
            retries: 'BIGINT',
            resent: 'BOOLEAN',
            rtt_us: 'BIGINT',
            min_rtt_us: 'BIGINT',
            retry_after_s: 'DOUBLE',
            body_received_us: 'BIGINT',
            connected_us: 'BIGINT',
            sent_us: 'BIGINT',
            headers_us: 'BIGINT',
            first_event_us: 'BIGINT',
            first_token_us: 'BIGINT',
            first_answer_us: 'BIGINT',
            last_token_us: 'BIGINT',
            done_us: 'BIGINT',
            chunk_offsets_us: 'BIGINT[]',
            chunk_count: 'BIGINT',
            server_ttft_s: 'DOUBLE',
            server_latency_s: 'DOUBLE',
            server_queue_s: 'DOUBLE',
            overhead_us: 'BIGINT',
            overhead_end_us: 'BIGINT',
            loop_lag_us: 'BIGINT',
            gc_pause_us: 'BIGINT',
            run_id: 'VARCHAR',
            workload: 'VARCHAR',
            prompt_id: 'VARCHAR',
            repeat: 'INTEGER',
            warmup: 'BOOLEAN',
            load_concurrency: 'BIGINT',
            load_rate_per_s: 'DOUBLE',
            due_at_unix_us: 'BIGINT',
            send_lag_s: 'DOUBLE',
            imported_from: 'VARCHAR',
            attributes: 'MAP(VARCHAR, VARCHAR)'
        }
    )
    WHERE span_id IS NOT NULL
),
-- part: parquet
parquet AS (FROM read_parquet('spans/collected/*.parquet', filename = true, union_by_name = true)),
-- part: stored
stored AS (
    SELECT journal.*
    FROM counting
    JOIN journal USING (filename)
    WHERE
        NOT EXISTS (
            FROM elsewhere
            WHERE elsewhere.filename = journal.filename AND journal.seq BETWEEN elsewhere.first AND elsewhere.last
        )
    UNION ALL BY NAME
    SELECT named.*
    FROM counting
    -- Files of Dyno's first format don't name the writer, since each is one writer's.
    JOIN (SELECT CAST(NULL AS VARCHAR) AS writer WHERE false UNION ALL BY NAME FROM parquet) AS named USING (filename)
    WHERE
        NOT EXISTS (
            FROM elsewhere
            WHERE
                elsewhere.filename = named.filename
                AND elsewhere.writer = coalesce(named.writer, elsewhere.writer)
                AND named.seq BETWEEN elsewhere.first AND elsewhere.last
        )
)
-- end
-- part: derived
SELECT
    trace_id,
    span_id,
    parent_span_id,
    name,
    kind,
    attributes['resource.service.name'] AS service,
    started_at,
    duration_us / 1e6 AS latency_s,
    coalesce(operation, attributes['llm.request.type']) AS operation,
    provider,
    coalesce(
        model, attributes['llm.request.model'], attributes['llm.model_name'], attributes['embedding.model_name']
    ) AS model,
    response_model,
    response_id,
    -- Clients and engines that follow older conventions use other names. vLLM's names come first.
    coalesce(
        input_tokens,
        TRY_CAST(attributes['gen_ai.usage.prompt_tokens'] AS BIGINT),
        TRY_CAST(attributes['llm.usage.prompt_tokens'] AS BIGINT),
        TRY_CAST(attributes['llm.token_count.prompt'] AS BIGINT)
    ) AS input_tokens,
    coalesce(
        output_tokens,
        TRY_CAST(attributes['gen_ai.usage.completion_tokens'] AS BIGINT),
        TRY_CAST(attributes['llm.usage.completion_tokens'] AS BIGINT),
        TRY_CAST(attributes['llm.token_count.completion'] AS BIGINT)
    ) AS output_tokens,
    reasoning_tokens,
    cached_tokens,
    finish_reasons[1] AS finish_reason,
    coalesce(method, attributes['http.method']) AS method,
    coalesce(path, attributes['http.target']) AS path,
    coalesce(status, TRY_CAST(attributes['http.status_code'] AS INTEGER)) AS status,
    -- vLLM's own figures. Those of other engines are in `attributes` under their own names.
    TRY_CAST(attributes['gen_ai.latency.time_in_queue'] AS DOUBLE) AS queue_s,
    TRY_CAST(attributes['gen_ai.latency.time_in_model_prefill'] AS DOUBLE) AS prefill_s,
    TRY_CAST(attributes['gen_ai.latency.time_in_model_decode'] AS DOUBLE) AS decode_s,
    TRY_CAST(attributes['gen_ai.latency.time_to_first_token'] AS DOUBLE) AS ttft_s,
    CASE
        WHEN error_type IS NOT NULL THEN error_type
        WHEN attributes['otel.status_code'] = 'ERROR'
            THEN coalesce(attributes['otel.status_description'], 'ERROR')
    END AS error,
    run_id,
    workload,
    prompt_id,
    -- What other programs' spans have, and rows of version 1 have in the map
    CASE
        WHEN coalesce(user_agent, client_address, session_id, reasoning_level) IS NULL THEN attributes
        ELSE
            map_concat(
                coalesce(attributes, MAP {}),
                map_from_entries(
                    list_filter(
                        [
                            {'k': 'user_agent.original', 'v': user_agent},
                            {'k': 'client.address', 'v': client_address},
                            {'k': 'session.id', 'v': session_id},
                            {'k': 'gen_ai.request.reasoning.level', 'v': reasoning_level}
                        ],
                        lambda entry: entry.v IS NOT NULL
                    )
                )
            )
    END AS attributes
FROM stored;
