"""Exchanges that a test makes itself: it begins one, answers with reads at given milliseconds, and finishes it."""

import json

from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.record import Record
from dyno_proxy.readers import APIS

MS = 1_000_000
START = 7_000 * MS
JSON, EVENTS = b"application/json", b"text/event-stream"


def started(**settings: object) -> Exchange:
    exchange = Exchange(START, 1_700_000_000_000_000, "POST", "/metis/v1/chat/completions")
    exchange.operation, exchange.reader = "chat", APIS["/chat/completions"].reader
    exchange.request_body = [b'{"model": "m", "stream": true}']
    exchange.request_bytes = len(exchange.request_body[0])
    exchange.body_received_ns = START + 1 * MS
    exchange.connected_ns = START + 3 * MS
    exchange.sent_ns = START + 4 * MS
    for name, value in settings.items():
        setattr(exchange, name, value)
    return exchange


def sse(*payloads: object) -> bytes:
    return b"".join(
        b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"
        for payload in payloads
    )


def delta(text: str | None = None, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text} | more, "finish_reason": finish}]}


def answered(status: int, reads: list[tuple[int, bytes]], *, kind: bytes = b"text/event-stream", end: bool = True,
             headers: tuple[tuple[bytes, bytes], ...] = (), **settings: object) -> Record:  # fmt: skip
    exchange = started(**settings)
    exchange.head(START + 50 * MS, status, [(b"Content-Type", kind), *headers])
    for at_ms, body in reads:
        exchange.read(START + at_ms * MS, START + at_ms * MS + 2_000, body)
    exchange.complete = end
    return exchange.finish(START + (reads[-1][0] if reads else 60) * MS, 5)
