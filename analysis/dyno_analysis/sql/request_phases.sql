-- A row is one request of `spans`, and where its time went, in seconds:
--
--     the client's span = client_s + latency_s
--     latency_s         = body_s + connect_s + proxy_s + upstream_s
--     upstream_s        = gateway_s + server_s
--     server_s          = queue_s + prefill_s + decode_s + rest_s
--
-- `rtt_us` is the round trip of the connection to the endpoint, by the proxy's kernel: that part of upstream_s is network.
-- What can't be known is NULL, never 0. A column `…_source` says who measured the figure. Only durations are taken
-- from other machines' spans, since machines' clocks differ.
-- Each request's trace and response are looked up among the collected spans, so that a question about some requests reads
-- no other spans' figures. By hand: run spans.sql and collected_spans.sql first.
CREATE OR REPLACE VIEW request_phases AS
-- Nothing is computed here: a filter on these columns then reaches the requests before anything is looked up for them.
SELECT
    request.* EXCLUDE (
        body_s, connect_s, proxy_s, response_id, wait_s, server_latency_s, server_queue_s, server_prefill_s, server_decode_s
    ),
    found.client_s,
    request.body_s,
    request.connect_s,
    request.proxy_s,
    CASE WHEN request.wait_s >= 0 THEN request.wait_s END AS upstream_s,
    found.gateway_s,
    found.server_s,
    found.server_source,
    found.queue_s,
    found.queue_source,
    found.prefill_s,
    found.prefill_source,
    found.decode_s,
    found.decode_source,
    found.rest_s,
    found.client_span_id,
    found.server_span_id,
    found.server_spans
FROM (
    SELECT
        trace_id,
        span_id,
        parent_span_id,
        started_at,
        endpoint,
        operation,
        model,
        outcome,
        run_id,
        prompt_id,
        warmup,
        simulated,
        latency_s,
        rtt_us,
        min_rtt_us,
        body_received_us / 1e6 AS body_s,
        CASE WHEN connected_us >= 0 THEN greatest(connected_us - coalesce(body_received_us, 0), 0) / 1e6 END AS connect_s,
        overhead_end_us / 1e6 AS proxy_s,
        latency_s - (greatest(connected_us, coalesce(body_received_us, 0)) + overhead_end_us) / 1e6 AS wait_s,
        response_id,
        server_latency_s,
        server_queue_s,
        server_prefill_s,
        server_decode_s
    FROM spans
) AS request
INNER JOIN LATERAL (
    WITH RECURSIVE
    wanted AS (
        SELECT
            request.trace_id AS wanted_id,
            request.span_id AS wanted_span,
            request.response_id AS wanted_response,
            request.latency_s AS own_s,
            request.wait_s AS wait_s,
            request.server_latency_s AS told_latency_s,
            request.server_queue_s AS told_queue_s,
            request.server_prefill_s AS told_prefill_s,
            request.server_decode_s AS told_decode_s
    ),
    -- An exporter that got no answer sends a span again; each span counts once.
    collected AS MATERIALIZED (
        FROM wanted JOIN collected_spans AS other ON other.trace_id = wanted_id
        SELECT
            trace_id, span_id, parent_span_id, kind, latency_s, response_id, operation, model, path, error,
            queue_s, prefill_s, decode_s,
            attributes['gen_ai.request.id'] AS request_id
        QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY latency_s DESC NULLS LAST, name) = 1
    ),
    -- As in server_spans.sql
    servers AS MATERIALIZED (
        FROM collected
        SELECT trace_id, span_id, latency_s, queue_s, prefill_s, decode_s
        WHERE kind = 'SERVER' OR coalesce(queue_s, prefill_s, decode_s) IS NOT NULL
    ),
    requests AS MATERIALIZED (
        FROM wanted JOIN (FROM spans AS every) AS asked ON asked.trace_id = wanted_id
        SELECT DISTINCT
            trace_id, span_id, parent_span_id, response_id, latency_s,
            -- The path without its first part, which names the endpoint at the proxy: the endpoint's path ends with it.
            regexp_replace(path, '^/[^/]+', '') AS path_end,
            outcome NOT IN ('rejected', 'upstream_unreachable') AS reached
        WHERE trace_id IN (SELECT trace_id FROM collected)
    ),
    -- If several requests have the same parent, or the same response id, a server span can't be assigned by that.
    alone AS (
        FROM requests
        SELECT
            *,
            reached AND parent_span_id IS NOT NULL
                AND count(*) FILTER (reached) OVER (PARTITION BY trace_id, parent_span_id) = 1 AS by_parent,
            reached AND response_id IS NOT NULL
                AND count(*) FILTER (reached) OVER (PARTITION BY trace_id, response_id) = 1 AS by_response
    ),
    -- Each request's spans at the endpoint: the children of its own span (`propagate = true`), the other children of its
    -- parent (the client's traceparent was passed unchanged), and all spans below these.
    below(trace_id, request, span_id) AS (
        SELECT requests.trace_id, requests.span_id, child.span_id
        FROM requests JOIN collected AS child
            ON child.trace_id = requests.trace_id AND child.parent_span_id = requests.span_id
        UNION
        SELECT alone.trace_id, alone.span_id, beside.span_id
        FROM alone JOIN collected AS beside
            ON beside.trace_id = alone.trace_id AND beside.parent_span_id = alone.parent_span_id
        SEMI JOIN servers ON servers.trace_id = beside.trace_id AND servers.span_id = beside.span_id
        LEFT JOIN servers AS engine ON engine.trace_id = beside.trace_id AND engine.span_id = beside.span_id
        WHERE
            alone.by_parent
            -- A client may have called other servers under the same parent.
            AND (
                coalesce(engine.queue_s, engine.prefill_s, engine.decode_s) IS NOT NULL
                OR coalesce(beside.operation, beside.model, beside.response_id, beside.request_id) IS NOT NULL
                OR ends_with(beside.path, alone.path_end)
            )
        UNION
        SELECT below.trace_id, below.request, child.span_id
        FROM below JOIN collected AS child
            ON child.trace_id = below.trace_id AND child.parent_span_id = below.span_id
    ),
    candidates AS (
        SELECT trace_id, request, span_id FROM below
        UNION
        SELECT alone.trace_id, alone.span_id, named.span_id
        FROM alone JOIN collected AS named
            ON named.trace_id = alone.trace_id
            AND (
                named.response_id = alone.response_id
                OR named.request_id = alone.response_id
                OR starts_with(named.request_id, alone.response_id || '-') -- vLLM numbers the parts of a request
            )
        WHERE alone.by_response
    ),
    -- The span to take: the engine's own before a gateway's, one that worked before a failed attempt, the outer before the
    -- inner. If several are alike (attempts, or the parts of a request with n > 1), none of them is the whole request's.
    ranked AS (
        FROM candidates
        JOIN servers USING (trace_id, span_id)
        JOIN collected USING (trace_id, span_id)
        SELECT
            trace_id,
            request,
            span_id,
            servers.latency_s,
            servers.queue_s,
            servers.prefill_s,
            servers.decode_s,
            coalesce(servers.queue_s, servers.prefill_s, servers.decode_s) IS NOT NULL AS of_engine,
            rank() OVER (
                PARTITION BY trace_id, request
                ORDER BY
                    of_engine DESC,
                    error IS NULL DESC,
                    (trace_id, request, collected.parent_span_id) IN (
                        FROM candidates JOIN servers USING (trace_id, span_id) SELECT (trace_id, request, span_id)
                    )
            ) AS place
    ),
    served AS (
        FROM ranked
        SELECT
            trace_id,
            request,
            count(*) AS server_spans,
            CASE WHEN count(*) = 1 THEN any_value(span_id) END AS server_span_id,
            CASE WHEN count(*) = 1 THEN any_value(latency_s) END AS latency_s,
            CASE WHEN count(*) = 1 THEN any_value(queue_s) END AS queue_s,
            CASE WHEN count(*) = 1 THEN any_value(prefill_s) END AS prefill_s,
            CASE WHEN count(*) = 1 THEN any_value(decode_s) END AS decode_s,
            bool_and(of_engine) AS of_engine
        WHERE place = 1
        GROUP BY trace_id, request
    ),
    -- The clients' spans around a request, from the nearest: an HTTP library's, then an SDK's.
    above(trace_id, request, request_s, span_id, parent_span_id, latency_s, depth) AS (
        SELECT
            requests.trace_id, requests.span_id, requests.latency_s,
            parent.span_id, parent.parent_span_id, parent.latency_s, 1
        FROM requests JOIN collected AS parent
            ON parent.trace_id = requests.trace_id AND parent.span_id = requests.parent_span_id AND parent.kind = 'CLIENT'
        UNION ALL
        SELECT
            above.trace_id, above.request, above.request_s,
            parent.span_id, parent.parent_span_id, parent.latency_s, above.depth + 1
        FROM above JOIN collected AS parent
            ON parent.trace_id = above.trace_id AND parent.span_id = above.parent_span_id AND parent.kind = 'CLIENT'
        WHERE above.depth < 16
    ),
    -- A span that ended before the request (at the response's head, say) doesn't contain it. A span that contains several
    -- requests (a client's retries) isn't any single request's.
    traced AS (
        FROM (FROM above SELECT *, count(DISTINCT request) OVER (PARTITION BY trace_id, span_id) AS held)
        SELECT trace_id, request, span_id AS client_span_id, latency_s
        WHERE held = 1 AND latency_s >= request_s
        QUALIFY row_number() OVER (PARTITION BY trace_id, request ORDER BY depth) = 1
    ),
    -- A client that sends no `traceparent` has its span in a trace of its own. It has the response's id, overlaps the
    -- request in time (within 2 s, since clocks differ), and its URL names no other endpoint.
    clients AS (
        FROM wanted JOIN collected_spans AS other ON other.response_id = wanted_response
        SELECT
            response_id, trace_id, span_id, kind, started_at, latency_s,
            coalesce(attributes['url.full'], attributes['http.url'], path, '') AS url
        WHERE kind = 'CLIENT'
        QUALIFY row_number() OVER (PARTITION BY trace_id, span_id ORDER BY latency_s DESC NULLS LAST, name) = 1
    ),
    matches AS (
        FROM wanted
        JOIN (FROM spans AS every) AS asked ON asked.response_id = wanted_response
        JOIN clients AS client ON client.response_id = asked.response_id
        SELECT DISTINCT
            asked.trace_id,
            asked.span_id AS request,
            client.span_id AS client_span_id,
            client.latency_s,
            count(*) OVER (PARTITION BY client.trace_id, client.span_id) AS requests,
            count(*) OVER (PARTITION BY asked.trace_id, asked.span_id) AS clients
        WHERE
            client.trace_id <> asked.trace_id
            AND client.latency_s >= asked.latency_s
            AND asked.started_at <= client.started_at + to_microseconds(CAST((client.latency_s + 2) * 1e6 AS BIGINT))
            AND client.started_at <= asked.started_at + to_microseconds(CAST((asked.latency_s + 2) * 1e6 AS BIGINT))
            AND coalesce(
                nullif(regexp_extract(client.url, '^(?:[a-z]+://[^/]+)?/([^/]+)/v1(?:/|$)', 1), ''), asked.endpoint
            ) = asked.endpoint
    ),
    found AS (
        FROM served SELECT *
        UNION ALL BY NAME
        FROM traced SELECT trace_id, request, client_span_id, latency_s AS client_latency_s
        UNION ALL BY NAME
        FROM matches
        SELECT trace_id, request, client_span_id AS other_span_id, latency_s AS other_latency_s
        WHERE requests = 1 AND clients = 1
    ),
    -- At most one row, which is the request's own.
    own AS (
        FROM found
        SELECT
            any_value(server_spans) AS server_spans,
            any_value(server_span_id) AS server_span_id,
            any_value(latency_s) AS latency_s,
            any_value(queue_s) AS queue_s,
            any_value(prefill_s) AS prefill_s,
            any_value(decode_s) AS decode_s,
            any_value(of_engine) AS of_engine,
            coalesce(any_value(client_span_id), any_value(other_span_id)) AS client_span_id,
            coalesce(any_value(client_latency_s), any_value(other_latency_s)) AS client_latency_s
        WHERE (trace_id, request) IN (FROM wanted SELECT (wanted_id, wanted_span))
    ),
    known AS (
        SELECT
            wait_s,
            client_latency_s - own_s AS client_s,
            coalesce(latency_s, told_latency_s) AS server_s,
            CASE
                WHEN latency_s IS NOT NULL THEN CASE WHEN of_engine THEN 'engine span' ELSE 'server span' END
                WHEN told_latency_s IS NOT NULL THEN 'reported in the response'
            END AS server_source,
            coalesce(queue_s, told_queue_s) AS queue_s,
            CASE
                WHEN queue_s IS NOT NULL THEN 'engine span'
                WHEN told_queue_s IS NOT NULL THEN 'reported in the response'
            END AS queue_source,
            coalesce(prefill_s, told_prefill_s) AS prefill_s,
            CASE
                WHEN prefill_s IS NOT NULL THEN 'engine span'
                WHEN told_prefill_s IS NOT NULL THEN 'reported in the response'
            END AS prefill_source,
            coalesce(decode_s, told_decode_s) AS decode_s,
            CASE
                WHEN decode_s IS NOT NULL THEN 'engine span'
                WHEN told_decode_s IS NOT NULL THEN 'reported in the response'
            END AS decode_source,
            client_span_id,
            server_span_id,
            coalesce(server_spans, 0) AS server_spans
        FROM wanted
        LEFT JOIN own ON true
    )
    SELECT
        *,
        -- A server may go on working after the client has left, or may count from an earlier moment. Then the
        -- difference means nothing.
        CASE WHEN wait_s >= server_s THEN wait_s - server_s END AS gateway_s,
        CASE
            WHEN queue_source = server_source AND prefill_source = server_source AND decode_source = server_source
                AND server_s >= queue_s + prefill_s + decode_s
                THEN server_s - (queue_s + prefill_s + decode_s)
        END AS rest_s
    FROM known
) AS found ON true;
