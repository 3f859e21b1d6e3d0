-- A row is one request. docs/spans.md says what each stored column means; here times become seconds, and every stored
-- column is one of the view too. What has no column is in the map `attributes`, under its OpenTelemetry name.
-- In a DuckDB of your own: put your folder in place of 'spans' below, four times, and paste the whole file. You may
-- query the view while a proxy writes and while journals become Parquet (docs/spans.md): the folder is listed once,
-- before the files are read, and a journal that is converted meanwhile is still read as it was.
-- `dyno` replaces the parts `counting` and `stored` with explicit lists of files. `ignore_errors` and
-- `span_id IS NOT NULL` drop the torn end of a journal whose writer was killed, and what says that a file was emptied.

-- part: view
CREATE OR REPLACE VIEW spans AS
-- part: counting
WITH listed AS MATERIALIZED (
    SELECT
        file AS filename,
        -- Files with the times of their rows in the name come before others that hold the same rows.
        regexp_matches(file, '\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_[A-Za-z0-9_]+-\d{12}-') AS is_timed,
        regexp_extract(file, '(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})(-(\d{12})\.parquet|\.jsonl)$', 1) AS writer,
        TRY_CAST(regexp_extract(file, '(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})(-(\d{12})\.parquet|\.jsonl)$', 2) AS BIGINT) AS first,
        TRY_CAST(regexp_extract(file, '(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})(-(\d{12})\.parquet|\.jsonl)$', 4) AS BIGINT) AS last
    FROM glob('spans/*')
),
-- The rows that a file holds: by its name, or, if it is merged from several writers' files, as it says itself.
said AS MATERIALIZED (
    SELECT file_name AS filename, unnest(string_split(decode(value), ',')) AS part
    FROM parquet_kv_metadata('spans/*.parquet')
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
        'spans/*.jsonl',
        format = 'newline_delimited',
        ignore_errors = true,
        filename = true,
        columns = {
            -- begin: columns of a journal's row, written by make sql
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
            -- end
        }
    )
    WHERE span_id IS NOT NULL
),
-- part: parquet
parquet AS (FROM read_parquet('spans/*.parquet', filename = true, union_by_name = true)),
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
-- part: derived
SELECT
    trace_id,
    span_id,
    parent_span_id,
    started_at,
    endpoint,
    provider,
    operation,
    model,
    response_model,
    streamed,
    method,
    path,
    status,
    outcome,
    error_type,
    duration_us / 1e6 AS latency_s,
    headers_us / 1e6 AS ttfb_s,
    CASE WHEN streamed THEN first_token_us / 1e6 END AS ttft_s,
    CASE WHEN streamed THEN first_answer_us / 1e6 END AS ttfa_s,
    CASE
        -- All tokens came in one read, so the time between them isn't known.
        WHEN last_token_us = first_token_us THEN NULL
        -- Of several choices, the time that the reader of one sees.
        WHEN streamed AND streamed_tokens > first_tokens
            THEN (last_token_us - first_token_us) / 1e6 * choices / (streamed_tokens - first_tokens)
    END AS tpot_s,
    input_tokens,
    output_tokens,
    reasoning_tokens,
    cached_tokens,
    usage_source,
    finish_reasons[1] AS finish_reason,
    chunk_count,
    chunk_offsets_us,
    request_bytes,
    response_bytes,
    server_ttft_s,
    server_latency_s,
    server_queue_s,
    overhead_us,
    loop_lag_us,
    run_id,
    workload,
    prompt_id,
    repeat,
    -- A request without the flag isn't a warm-up, so `WHERE NOT warmup` keeps it.
    coalesce(warmup, false) AS warmup,
    -- A client may say anything, also a time that no calendar has.
    CASE WHEN due_at_unix_us BETWEEN 0 AND 253402300799999999 THEN make_timestamptz(due_at_unix_us) END AS due_at,
    send_lag_s,
    simulated,
    imported_from,
    -- The map is as it is stored: a query that asks for one attribute then reads that map and nothing else. What a proxy of
    -- version 1 put there, and later ones into a column, is in the column alone. Its rows always had the pause of garbage collections.
    CASE
        WHEN v < 2 AND map_contains(attributes, 'dyno.gc_pause_us') THEN
            map_from_entries(
                list_filter(
                    map_entries(attributes),
                    lambda entry:
                        CASE
                            -- begin: attributes of the map that have a column by now, written by make sql
                            WHEN entry.key IN (
                                'gen_ai.request.reasoning.level',
                                'user_agent.original',
                                'client.address',
                                'dyno.client',
                                'dyno.user',
                                'session.id',
                                'dyno.request_id',
                                'dyno.parent.tracestate'
                            ) THEN false
                            WHEN entry.key IN (
                                'dyno.parent.sampled',
                                'dyno.resent'
                            ) THEN TRY_CAST(entry.value AS BOOLEAN) IS NULL
                            WHEN entry.key IN (
                                'dyno.usage.first_read_tokens',
                                'dyno.choice.count',
                                'dyno.retries',
                                'dyno.connection.rtt_us',
                                'dyno.connection.min_rtt_us',
                                'dyno.gc_pause_us',
                                'dyno.load.concurrency'
                            ) THEN TRY_CAST(entry.value AS BIGINT) IS NULL
                            WHEN entry.key IN (
                                'dyno.retry_after_s',
                                'dyno.load.rate_per_s'
                            ) THEN TRY_CAST(entry.value AS DOUBLE) IS NULL
                            -- end
                            ELSE true
                        END
                )
            )
        WHEN attributes IS NULL THEN MAP {}
        ELSE attributes
    END AS attributes,
    overhead_end_us,
    timed.attributes['dyno.mirror'] AS mirror,
    timed.attributes['dyno.mirror.trace_id'] AS mirror_trace_id,
    timed.attributes['dyno.mirror.span_id'] AS mirror_span_id,
    response_id,
    body_received_us,
    connected_us,
    sent_us,
    TRY_CAST(timed.attributes['dyno.server.prefill_s'] AS DOUBLE) AS server_prefill_s,
    TRY_CAST(timed.attributes['dyno.server.decode_s'] AS DOUBLE) AS server_decode_s,
    -- Any choice's counts, in each API's words.
    list_has_any(
        list_transform(finish_reasons, lambda reason: lower(reason)),
        ['length', 'max_tokens', 'max_output_tokens', 'model_length', 'model_context_window_exceeded']
    ) AS cut_by_length,
    user_agent,
    client,
    client_address,
    "user",
    -- What groups a conversation: the baggage's session, else what a client of an agent's framework says, else the user.
    coalesce(session_id, timed.attributes['gen_ai.conversation.id'], "user") AS session_id,
    request_id,
    reasoning_level,
    choice_count,
    first_read_tokens,
    connection_reused,
    resent,
    retries,
    retry_after_s,
    rtt_us,
    min_rtt_us,
    gc_pause_us,
    sampled,
    tracestate,
    -- begin: stored columns that stand nowhere above, written by make sql
    finish_reasons,
    first_chunk_tokens,
    reasoning_streamed,
    headers_us,
    first_event_us,
    first_token_us,
    first_answer_us,
    last_token_us,
    done_us,
    load_concurrency,
    load_rate_per_s,
    -- end
    -- The row before it and the row after it, of the same writer, have the numbers beside it: the view `lost`.
    coalesce(writer, regexp_extract(filename, '([A-Za-z0-9_]+)-\d{12}[^/]*$', 1)) AS writer,
    seq,
    TRY(make_timestamptz(epoch_us(started_at) + duration_us)) AS ended_at,
    -- By the rule of the success rate: what a client cancelled and what the proxy rejected isn't a failure.
    outcome NOT IN ('ok', 'client_cancelled', 'rejected') AS failed
FROM (
    FROM (
        FROM stored
        SELECT * REPLACE (
            -- begin: columns whose values rows of version 1 have in the map, written by make sql
            coalesce(reasoning_level, attributes['gen_ai.request.reasoning.level']) AS reasoning_level,
            coalesce(user_agent, attributes['user_agent.original']) AS user_agent,
            coalesce(client_address, attributes['client.address']) AS client_address,
            coalesce(client, attributes['dyno.client']) AS client,
            coalesce("user", attributes['dyno.user']) AS "user",
            coalesce(session_id, attributes['session.id']) AS session_id,
            coalesce(request_id, attributes['dyno.request_id']) AS request_id,
            coalesce(sampled, TRY_CAST(attributes['dyno.parent.sampled'] AS BOOLEAN)) AS sampled,
            coalesce(tracestate, attributes['dyno.parent.tracestate']) AS tracestate,
            coalesce(first_read_tokens, TRY_CAST(attributes['dyno.usage.first_read_tokens'] AS BIGINT)) AS first_read_tokens,
            coalesce(choice_count, TRY_CAST(attributes['dyno.choice.count'] AS BIGINT)) AS choice_count,
            coalesce(retries, TRY_CAST(attributes['dyno.retries'] AS BIGINT)) AS retries,
            coalesce(resent, TRY_CAST(attributes['dyno.resent'] AS BOOLEAN)) AS resent,
            coalesce(rtt_us, TRY_CAST(attributes['dyno.connection.rtt_us'] AS BIGINT)) AS rtt_us,
            coalesce(min_rtt_us, TRY_CAST(attributes['dyno.connection.min_rtt_us'] AS BIGINT)) AS min_rtt_us,
            coalesce(retry_after_s, TRY_CAST(attributes['dyno.retry_after_s'] AS DOUBLE)) AS retry_after_s,
            coalesce(gc_pause_us, TRY_CAST(attributes['dyno.gc_pause_us'] AS BIGINT)) AS gc_pause_us,
            coalesce(load_concurrency, TRY_CAST(attributes['dyno.load.concurrency'] AS BIGINT)) AS load_concurrency,
            coalesce(load_rate_per_s, TRY_CAST(attributes['dyno.load.rate_per_s'] AS DOUBLE)) AS load_rate_per_s,
            -- end
            -- A stream that was read and had no output has 0 tokens. Other proxies' spans have the number of chunks
            -- apart, and so had older rows of empty streams.
            CASE
                WHEN output_tokens IS NULL AND streamed AND (usage_source = 'chunks' OR (chunk_count = 0
                    AND status < 400 AND attributes['dyno.unread'] IS NULL)) THEN chunk_count
                ELSE output_tokens
            END AS output_tokens,
            CASE
                WHEN usage_source IS NULL AND imported_from IS NULL THEN
                    CASE
                        WHEN output_tokens IS NULL AND streamed AND chunk_count = 0 AND status < 400
                            AND attributes['dyno.unread'] IS NULL THEN 'chunks'
                        WHEN output_tokens IS NULL AND NOT streamed AND input_tokens IS NOT NULL THEN 'server'
                    END
                ELSE usage_source
            END AS usage_source
        )
    )
    SELECT
        *,
        -- The tokens that came with the first read. Older rows say only those of the first chunk, if at all, and how
        -- many chunks came in one read with it.
        coalesce(
            first_read_tokens,
            greatest(
                first_chunk_tokens,
                len(list_filter(chunk_offsets_us, lambda offset_us: offset_us = first_token_us)),
                1
            )
        ) AS first_tokens,
        greatest(choice_count, len(finish_reasons), 1) AS choices,
        -- Reasoning that was counted but not streamed takes no time between the first token and the last. If reasoning
        -- is hidden and wasn't counted, the number of streamed tokens isn't known.
        CASE
            WHEN attributes['dyno.reasoning.hidden'] = 'true' THEN NULL
            WHEN reasoning_tokens > 0 AND reasoning_streamed IS NOT TRUE THEN output_tokens - reasoning_tokens
            ELSE output_tokens
        END AS streamed_tokens
) AS timed;
