"""Spans that pass through a real OpenTelemetry Collector equal those of the span files, field by field."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from dyno_analysis.spans import folder as span_folder
from rigs.collector_process import collector, needs_collector, to_files
from rigs.fake_upstream import fake_upstream
from rigs.imports import imported
from rigs.network import refusing_port
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

pytestmark = needs_collector

NATIVE_COMPRESSION: Final = "exporter.file.nativeCompression"
FILES: Final[dict[str, dict[str, Any]]] = {
    "lines.jsonl": {},
    "messages.binpb": {"format": "proto"},
    "messages.binpb.zst": {"format": "proto", "compression": "zstd"},
    "lines.jsonl.zst": {"compression": "zstd"},
}

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT: Final = "b7ad6b7169203331"
STATE: Final = "vendor=one,other@tenant=t:1"
BAGGAGE: Final = (
    "dyno.run.id=20261124_215900_0a1b,dyno.workload=single,dyno.prompt.id=q%201,dyno.repeat=2,dyno.warmup=true,"
    "dyno.load.concurrency=8,dyno.load.rate_per_s=2.5,dyno.due_at_unix_us=1795557540000001,dyno.send_lag_s=0.00125,"
    "somebody=else"
)
LONG: Final = 700  # chunks: beyond 500 another thread writes the row
USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 30, "total_tokens": 42}
TIMES: Final = {
    "choices": [],
    "usage": {**USAGE, "time_to_first_token": 0.0123},
    "time_info": {"queue_time": 0.001, "prompt_time": 0.01, "completion_time": 0.25, "total_time": 0.3},
}


@dataclass(frozen=True)
class Request:
    """A request to an endpoint, and the endpoint's answer (in the script language of `dyno simulate`)."""

    endpoint: str
    script: list[dict[str, Any]]
    changes: dict[str, Any]  # to the body
    headers: tuple[tuple[str, str], ...] = ()
    path: str = "/chat/completions"
    leaves: bool = False  # the client, after the first chunk
    repeated: int = 1


STREAM: Final[list[dict[str, Any]]] = [
    {"wait_s": 0.02},
    {"tokens": 30, "every_s": 0.001},
    {"finish": "stop"},
    {"usage": USAGE},
    {"done": True},
]
ASKED: Final = {"stream": True, "stream_options": {"include_usage": True}}
REQUESTS: Final = {
    "streamed": Request("e", STREAM, ASKED, repeated=3),
    "in pieces, of a trace, with tags": Request(
        "e", STREAM, ASKED, (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", STATE), ("baggage", BAGGAGE))
    ),
    "with the server's own times": Request("e", [*STREAM[:3], {"event": TIMES}, {"done": True}], ASKED),
    "long": Request("e", [{"tokens": LONG, "every_s": 0.0002}, {"finish": "length"}, {"done": True}], {"stream": True}),
    "whole": Request("e", [], {"temperature": 1.0, "top_p": 0.5, "max_tokens": 7, "seed": 3}),
    "not ASCII, beyond 64 bits": Request("e", STREAM, {"model": "gpt-öß-\N{GRINNING FACE}", "seed": 10**30, **ASKED}),
    "refused": Request("e", [{"status": 429, "headers": {"Retry-After": "2"}}, {"error": "slow down"}], {}),
    "failed": Request("e", [{"status": 500}, {"error": "broken"}], {}),
    "cut off": Request("e", [{"token": "x"}, {"wait_s": 0.02}, {"cut": "reset"}], {"stream": True}),
    "left": Request("e", [{"tokens": 10_000, "every_s": 0.02}], {"stream": True}, leaves=True),
    "unreachable": Request("nobody", [], {}),
    "embeddings": Request("e", [], {"input": "a"}, path="/embeddings"),
    "another path": Request("e", [{"json": {"a": 1}}], {}, path="/elsewhere"),
    "no endpoint": Request("nowhere", [], {}),
    "mirrored": Request("mirrored", STREAM, ASKED, repeated=2),
}
SHOWN: Final = {
    *("ok", "http_error", "rate_limited", "truncated", "client_cancelled", "upstream_unreachable", "rejected"),
}
# The client said that its trace isn't sampled: a row as every other, and nothing for the Collector.
UNSAMPLED: Final = Request("e", STREAM, ASKED, (("traceparent", f"00-{'1' * 32}-{PARENT}-00"),))
ROWS: Final = sum(r.repeated * (2 if r.endpoint == "mirrored" else 1) for r in REQUESTS.values()) + 1


@asynccontextmanager
async def proxied(folder: Path, environment: dict[str, str]) -> AsyncIterator[RunningProxy]:
    """The endpoints are `e`; `mirrored`, whose requests are copied to `copy`; and `nobody`, where nothing listens."""
    async with fake_upstream() as upstream:
        config = f"""
[endpoints.e]
url = "{upstream.url}"
provider = "openai"
[endpoints.mirrored]
url = "{upstream.url}"
mirror = {{ to = "copy", share = 1.0 }}
[endpoints.copy]
url = "{upstream.url}"
model = "another"
"""
        nobody = {"nobody": f"http://127.0.0.1:{refusing_port()}/v1"}
        async with in_thread(running_proxy(folder, nobody, config, environment)) as proxy:
            yield proxy


async def ask(url: str, request: Request) -> None:
    body = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Why?"}], **request.changes}
    script = (("x-dyno-script", json.dumps(request.script)),) if request.script else ()
    sent = request_bytes(
        "POST",
        f"/{request.endpoint}/v1{request.path}",
        *(("Content-Type", "application/json"), *script, *request.headers),
        body=json.dumps(body).encode(),
    )
    for _ in range(request.repeated):
        if request.leaves:
            await ask_and_leave(url, sent)
        else:
            await exchange(url, sent)


async def ask_and_leave(url: str, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    writer.write(sent)
    await reader.readuntil(b"data: ")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def spans_by_id(folder: Path) -> dict[str, dict[str, Any]]:
    """All columns of the view `spans` but those that differ: the file that a row came from, and its place in that."""
    with span_folder.connect(folder) as connection:
        found = connection.sql(
            "SELECT * EXCLUDE (imported_from, writer, seq) "
            "REPLACE (started_at::VARCHAR AS started_at, due_at::VARCHAR AS due_at) "
            "FROM spans"
        )
        names = found.columns
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return {row["span_id"]: row for row in rows}


@pytest.mark.parametrize(("protocol", "gates"), [("http/protobuf", ""), ("grpc", NATIVE_COMPRESSION)])
async def test_the_round_trip(tmp_path: Path, protocol: str, gates: str) -> None:
    """Spans go through proxy, Collector, its files and `dyno import` into another folder: no column changes.

    This holds for both protocols, both formats, and zstd of each message (the Collector's default) and of whole files.
    """
    config = to_files(**{name: {"path": str(tmp_path / name), **options} for name, options in FILES.items()})
    async with in_thread(collector(tmp_path, config, gates=gates)) as running:
        url = running.grpc_url if protocol == "grpc" else running.http_url
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        async with proxied(tmp_path, environment) as proxy:
            for request in (*REQUESTS.values(), UNSAMPLED):
                await ask(proxy.url, request)
            await proxy.rows(ROWS)
        # The proxy's end sends what it still holds, and the Collector's end writes that.
    original = await asyncio.to_thread(spans_by_id, tmp_path / "spans")
    shown_kinds(original)

    (unsampled,) = [each for each in original.values() if each["trace_id"] == "1" * 32]
    del original[unsampled["span_id"]]
    for number, name in enumerate(FILES):
        folder = tmp_path / f"imported{number}"
        said = await asyncio.to_thread(imported, folder, tmp_path / name)
        came = await asyncio.to_thread(spans_by_id, folder)
        assert came.keys() == original.keys(), (name, said)
        differing = {
            (span_id, column): (value, came[span_id][column])
            for span_id, row in original.items()
            for column, value in row.items()
            if came[span_id][column] != value
        }
        assert not differing, name
    shown_links(written(tmp_path / "lines.jsonl"), original)


# Columns that these requests don't fill.
RARE = {
    *("choice_count", "client", "first_chunk_tokens", "reasoning_level", "resent", "retries", "session_id", "user"),
    "user_agent",
}


def shown_kinds(rows: dict[str, dict[str, Any]]) -> None:
    """The comparison isn't empty: it has all kinds of requests, and every column has a value at least once."""
    assert len(rows) == ROWS
    outcomes = Counter(row["outcome"] for row in rows.values())
    assert outcomes.keys() >= SHOWN
    assert max(len(row["chunk_offsets_us"] or ()) for row in rows.values()) >= LONG / 2
    assert {row["streamed"] for row in rows.values()} >= {True, False}
    columns = {column for row in rows.values() for column, value in row.items() if value is not None}
    assert next(iter(rows.values())).keys() - columns <= RARE


def written(lines: Path) -> dict[str, dict[str, Any]]:
    """Each span as the Collector wrote it, by its id."""
    documents = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    scopes = [scope for each in documents for resource in each["resourceSpans"] for scope in resource["scopeSpans"]]
    return {span["spanId"]: span for scope in scopes for span in scope["spans"]}


def shown_links(spans: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]]) -> None:
    """Check what a tracing system shows and rows don't hold: a mirrored copy's link to its original, a trace's
    state."""
    originals = {row["span_id"]: row["trace_id"] for row in rows.values() if row["mirror"] == "original"}
    linked = {
        link["spanId"]: link["traceId"]
        for span_id, span in spans.items()
        for link in span.get("links", ())
        if rows[span_id]["mirror"] == "copy"
    }
    assert linked == originals
    assert len(linked) == REQUESTS["mirrored"].repeated
    (child,) = [span for span in spans.values() if span["traceId"] == TRACE]
    assert (child["parentSpanId"], child["traceState"]) == (PARENT, STATE)
