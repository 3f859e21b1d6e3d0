"""Dyno's proxy as the driver sees it, on a free port: `/endpoints`, and a scripted answer behind each endpoint."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    endpoint: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class FakeProxy:
    url: str = ""
    received: list[Received] = field(default_factory=list)

    def asked(self, endpoint: str) -> list[dict[str, Any]]:
        return [request.body for request in self.received if request.endpoint == endpoint]


@asynccontextmanager
async def fake_proxy(
    scripts: Mapping[str, Script],
    endpoints: Mapping[str, Mapping[str, Any]] | None = None,
    port: int = 0,
    max_requests: int | None = None,
) -> AsyncIterator[FakeProxy]:
    """Its endpoints have the names in `scripts`. `endpoints` replaces parts of what `/endpoints` says of one."""
    proxy = FakeProxy()

    async def describe(_request: web.Request) -> web.Response:
        listed = [
            {
                "name": name,
                "url": f"http://{name}.example/v1",
                "model": f"{name}-model",
                "provider": None,
                "hardware": None,
                "price": None,
                "power_w": None,
            }
            | dict((endpoints or {}).get(name, {}))
            for name in scripts
        ]
        return web.json_response({"endpoints": listed, "version": "9.9.9", "max_requests": max_requests})

    async def relay(request: web.Request) -> web.StreamResponse:
        name = request.match_info["endpoint"]
        body = await request.read()
        proxy.received.append(Received(name, request.path, dict(request.headers), json.loads(body or b"{}")))
        return await scripts[name](request)

    app = web.Application()
    app.router.add_get("/endpoints", describe)
    app.router.add_route("*", "/{endpoint}/{path:.*}", relay)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await runner.cleanup()


def chunk(delta: Mapping[str, Any] | None = None, finish_reason: str | None = None, **top: Any) -> bytes:
    """One SSE event of a chat completion's stream. Without a delta and a reason, it has no choices."""
    choices = [{"index": 0, "delta": dict(delta or {}), "finish_reason": finish_reason}]
    document = {"id": "chatcmpl-1", "choices": choices if delta is not None or finish_reason else []} | top
    return b"data: " + json.dumps(document).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def streaming(reads: Sequence[bytes], server: str | None = None) -> Script:
    """A 200 with these bytes as an event stream. Each piece is one write."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream"} | ({"Server": server} if server else {})
        )
        await response.prepare(request)
        for read in reads:
            await response.write(read)
        return response

    return script


def answering(text: str, server: str | None = None) -> Script:
    """Gives the same answer to every request, streamed or whole as the request asks."""

    async def script(request: web.Request) -> web.StreamResponse:
        if json.loads(await request.read()).get("stream"):
            reads = [chunk({"role": "assistant"}), chunk({"content": text}), chunk({}, "stop"), DONE]
            return await streaming(reads, server)(request)
        message = {"role": "assistant", "content": text}
        document = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return web.json_response(document, headers={"Server": server} if server else None)

    return script


def saying(status: int, document: Any) -> Script:
    """Answers with this status and this JSON."""

    async def script(_request: web.Request) -> web.StreamResponse:
        return web.json_response(document, status=status)

    return script
