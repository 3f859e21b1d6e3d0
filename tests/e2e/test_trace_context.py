"""W3C trace context with a client that traces itself: the OpenAI SDK, whose HTTP client OpenTelemetry instruments.

SDK ──▶ tee ──▶ proxy ──▶ upstream     the bytes on both sides of the proxy are kept
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from openai import AsyncOpenAI
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rigs.collector_process import collector, needs_collector, to_files
from rigs.dyno_command import dyno
from rigs.network import free_port
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.scripted_upstream import ANSWER

TRACE_ID: Final = 0x0AF7651916CD43DD8448EB211C80319C
STATE: Final = [("vendor", "one"), ("other@tenant", "t:1")]
COMPLETION: Final = b'{"id":"a","object":"chat.completion","created":1,"model":"m","choices":[]}'
WHOLE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(COMPLETION)


@dataclass
class Wire:
    """The heads of requests, as the client sent them and as the endpoint got them."""

    proxy: RunningProxy
    url: str = ""  # the client's base URL
    sent: list[bytes] = field(default_factory=list)
    came: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def wire(folder: Path, endpoint: str = "", environment: dict[str, str] | None = None) -> AsyncIterator[Wire]:
    """`endpoint`: a line of [endpoints.e]."""
    made: list[Wire] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await read_request(reader)
            made[0].came.append(head)
            writer.write(ANSWER if json.loads(body).get("stream") else WHOLE + COMPLETION)

    async def tee(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_proxy, to_proxy = await asyncio.open_connection(*made[0].proxy.url.removeprefix("http://").split(":"))
        answering = asyncio.create_task(pump(from_proxy, writer))
        try:
            while True:
                head, body = await read_request(reader)
                made[0].sent.append(head)
                to_proxy.write(head + body)
        finally:
            to_proxy.close()
            await answering

    async with raw_upstream(serve) as upstream:
        config = f'[endpoints.e]\nurl = "{upstream}/v1"\n{endpoint}\n'
        async with in_thread(running_proxy(folder, {}, config, environment)) as proxy, raw_upstream(tee) as url:
            made.append(Wire(proxy, f"{url}/e/v1"))
            yield made[0]


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return head, await reader.readexactly(int(length[1])) if length else b""


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)


def lines(head: bytes, name: str) -> list[bytes]:
    """The head's lines that have this header, as bytes."""
    return [line for line in head.split(b"\r\n") if line.lower().startswith(name.encode() + b":")]


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    """The client's own tracing for every httpx2 client of this process, switched on as users do it."""
    made = TracerProvider(resource=Resource.create({"service.name": "a-client"}))
    instrumentor = HTTPX2ClientInstrumentor()
    instrumentor.instrument(tracer_provider=made)
    try:
        yield made
    finally:
        instrumentor.uninstrument()
        made.shutdown()


@pytest.fixture
def exported(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


async def ask(url: str, provider: TracerProvider, *, sampled: bool = True, streamed: bool = True) -> None:
    """Send one request with the SDK: inside a span of the client, in a trace that began elsewhere, with baggage."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    elsewhere = SpanContext(TRACE_ID, 0xB7AD6B7169203331, True, flags, TraceState(STATE))
    context = trace.set_span_in_context(NonRecordingSpan(elsewhere))
    context = baggage.set_baggage("dyno.prompt.id", "q1,é", baggage.set_baggage("user", "u", context))
    token = attach(context)
    messages: list[Any] = [{"role": "user", "content": "Why?"}]
    try:
        with provider.get_tracer("client").start_as_current_span("question"):
            async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                if streamed:
                    stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
                    assert [chunk.choices[0].delta.content async for chunk in stream] == ["x", None]
                else:
                    assert (await client.chat.completions.create(model="m", messages=messages)).id == "a"
    finally:
        detach(token)


def of_http(spans: InMemorySpanExporter) -> ReadableSpan:
    """The instrumentation's span of the request. Its parent is the client's own span."""
    (found,) = [span for span in spans.get_finished_spans() if span.name == "POST"]
    return found


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_clients_headers_pass_as_they_came(
    tmp_path: Path, provider: TracerProvider, exported: InMemorySpanExporter, *, streamed: bool
) -> None:
    """All three headers pass once and unchanged. The client's span is the parent of ours, in the client's trace."""
    async with wire(tmp_path) as w:
        await ask(w.url, provider, streamed=streamed)
        (row,) = await w.proxy.rows(1)
    for name in ("traceparent", "tracestate", "baggage"):
        sent, came = (lines(head, name) for head in (*w.sent, *w.came))
        assert len(sent) == 1, name
        assert came == sent
    client = of_http(exported).get_span_context()
    assert client is not None
    assert row["trace_id"] == f"{TRACE_ID:032x}" == f"{client.trace_id:032x}"
    assert row["parent_span_id"] == f"{client.span_id:016x}"
    assert row["span_id"] not in w.came[0].decode()
    assert row["prompt_id"] == "q1,é"


@pytest.mark.parametrize("sampled", [True, False])
async def test_ours_in_its_place(
    tmp_path: Path, provider: TracerProvider, exported: InMemorySpanExporter, *, sampled: bool
) -> None:
    """With `propagate = true` the endpoint gets our span in the client's trace, with the client's flag and state."""
    async with wire(tmp_path, "propagate = true") as w:
        await ask(w.url, provider, sampled=sampled)
        (row,) = await w.proxy.rows(1)
    (head,), (sent,) = w.came, w.sent
    (clients,) = lines(sent, "traceparent")
    assert lines(head, "traceparent") == [f"traceparent: 00-{TRACE_ID:032x}-{row['span_id']}-0{sampled:d}".encode()]
    for name in ("tracestate", "baggage"):
        assert lines(head, name) == lines(sent, name) != []
    assert clients.decode().endswith(f"-{row['parent_span_id']}-0{sampled:d}")
    assert row["span_id"] != row["parent_span_id"]
    assert len(exported.get_finished_spans()) == (2 if sampled else 0)


@needs_collector
async def test_one_trace_in_the_collector(tmp_path: Path, provider: TracerProvider) -> None:
    """Client and proxy export to the same real Collector.

    It has one trace: the client's span, the request's, and ours below.
    """
    path = tmp_path / "spans.jsonl"
    async with in_thread(collector(tmp_path, to_files(spans={"path": str(path)}))) as running:
        exporter = OTLPSpanExporter(endpoint=f"{running.http_url}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        async with wire(tmp_path, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": running.http_url}) as w:
            await ask(w.url, provider)
            await w.proxy.rows(1)
        await asyncio.to_thread(provider.force_flush)
    spans: dict[tuple[str, str], dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            named = {each["key"]: each["value"].get("stringValue") for each in resource["resource"]["attributes"]}
            for scope in resource["scopeSpans"]:
                spans |= {(named["service.name"], span["name"]): span for span in scope["spans"]}
    question, post = spans[("a-client", "question")], spans[("a-client", "POST")]
    ours = spans[("dyno-proxy", "chat m")]
    assert len(spans) == 3
    assert {span["traceId"] for span in spans.values()} == {f"{TRACE_ID:032x}"}
    assert (post["parentSpanId"], ours["parentSpanId"]) == (question["spanId"], post["spanId"])


async def test_one_request_from_all_sides(tmp_path: Path, provider: TracerProvider) -> None:
    """Client and engine export to the collector beside the proxy. `dyno trace` and `request_phases` show all three."""
    port = free_port()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    async with wire(tmp_path, "propagate = true", {"DYNO_COLLECTOR_LISTEN": f"127.0.0.1:{port}"}) as w:
        await ask(w.url, provider)
        (row,) = await w.proxy.rows(1)
        engine = TracerProvider(resource=Resource.create({"service.name": "vllm"}))
        engine.add_span_processor(BatchSpanProcessor(exporter))
        (header,) = lines(w.came[0], "traceparent")
        came = TraceContextTextMapPropagator().extract({"traceparent": header.decode().partition(": ")[2]})
        served = engine.get_tracer("vllm.llm_engine").start_span("llm_request", came, SpanKind.SERVER)
        served.set_attribute("gen_ai.latency.time_in_queue", 0.0001)
        served.end()
        for each in (engine, provider):
            assert await asyncio.to_thread(each.force_flush)
        engine.shutdown()
    shown = dyno("trace", row["span_id"], "--spans", tmp_path / "spans").stdout.splitlines()
    names = [re.split(r"  |█|·", line.strip())[0].strip() for line in shown if "█" in line]
    assert names == ["question @a-client", "POST @a-client", "dyno: chat m @e", "llm_request @vllm"]
    query = "SELECT client_s > 0, queue_s, queue_source FROM request_phases"
    asked = dyno("sql", query, "--spans", tmp_path / "spans", "--format", "csv")
    assert asked.stdout.splitlines()[1:] == ["true,0.0001,engine span"]
