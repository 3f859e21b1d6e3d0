"""Each exchange is done directly and through the real proxy: every byte of head, body and framing is compared.

Only what HTTP demands of a proxy may differ: `Host`, and the hop-by-hop headers.
"""

import asyncio
import base64
import gzip
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from rigs.fake_upstream import FakeUpstream, Script, fake_upstream
from rigs.process_memory import memory_of
from rigs.raw_http import Answer, exchange, request_bytes
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.scripted_upstream import ASK, HEAD, framed, proxied, read_request
from rigs.until import LIMIT_S

# One upstream, one proxy and one loop for all: only the script changes.
pytestmark = pytest.mark.asyncio(loop_scope="module")

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "upgrade", "proxy-authenticate"}
OWN_TO_A_HOP = HOP_BY_HOP | {"host", "transfer-encoding", "proxy-authorization", "expect"}

ALL_BYTES = bytes(range(256))
NOISE = random.Random(1).randbytes(3_000_000)  # noqa: S311 - bytes that don't compress


@dataclass
class Bench:
    upstream: FakeUpstream
    proxy: RunningProxy
    script: Script = field(default_factory=list)

    async def both(self, script: Script, request: bytes) -> tuple[Answer, Answer]:
        """The answers of the same exchange, direct and proxied. `request` asks for `/v1/…`."""
        self.script = script
        direct = await exchange(self.upstream.url, request)
        proxied = await exchange(self.proxy.url, request.replace(b" /v1", b" /up/v1", 1))
        return direct, proxied


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    made: list[Bench] = []
    async with fake_upstream(lambda _: made[0].script) as upstream:
        proxied = running_proxy(tmp_path_factory.mktemp("proxy"), {"up": upstream.url})
        async with in_thread(proxied) as proxy:
            made.append(Bench(upstream, proxy))
            yield made[0]


def passed_on(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]


def status(code: int, *headers: tuple[str, str], **options: Any) -> dict[str, Any]:
    return {"status": code, "headers": [list(header) for header in headers], **options}


def raw(*pieces: str) -> Script:
    """A chunked response. The script writes the framing itself, each piece in one write, with pauses between them."""
    steps: Script = [status(200, ("Content-Type", "text/plain"), ("Transfer-Encoding", "chunked"), framing="raw")]
    for piece in pieces:
        steps += [{"wait_s": 0.01}, {"bytes": piece}]
    return steps


def b64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


JSON = ("Content-Type", "application/json")
EVENTS = ("Content-Type", "text/event-stream")
STREAM: Script = [
    {"reasoning": "hm"},
    {"tokens": 5, "every_s": 0.005},
    {"finish": "stop"},
    {"usage": True},
    {"done": True},
]

RESPONSES: dict[str, Script] = {
    "stream": STREAM,
    "stream in one write": [{"together": [{"tokens": 9}, {"finish": "stop"}, {"done": True}]}],
    "stream with a length": [status(200, framing="length"), *STREAM],
    "stream until the connection ends": [status(200, framing="close"), *STREAM],
    "an event in two writes": [{"bytes": 'data: {"choi'}, {"wait_s": 0.01}, {"bytes": 'ces":[]}\n\n'}, {"done": True}],
    "CRLF and comments in a stream": [status(200, EVENTS), {"bytes": ": hi\r\n\r\ndata: {}\r\n\r\n"}],
    "json": [{"json": {"id": "1", "choices": [], "unknown": {"a": [1, None]}}}],
    "json, oddly written": [status(200, JSON), {"bytes": '{ "b" :1,"a":\t2, "a":3, "c":1.0e2, "\\u00e9":"é" }\r\n'}],
    "json that is none": [status(200, JSON), {"bytes": "<html>oops</html>"}],
    "binary": [status(200, ("Content-Type", "audio/mpeg")), b64(ALL_BYTES)],
    "binary, large, sized": [status(200, framing="length"), b64(NOISE)],
    "binary, large, chunked": [status(200, framing="chunked"), b64(NOISE), b64(ALL_BYTES)],
    "binary, large, until the end": [status(200, framing="close"), b64(NOISE)],
    "empty, with a length": [status(200)],
    "empty, chunked": [status(200, framing="chunked")],
    "empty, until the end": [status(200, framing="close")],
    "gzip, sized": [status(200, JSON, ("Content-Encoding", "gzip")), b64(gzip.compress(b'{"a":1}', mtime=0))],
    "gzip, streamed": [status(200, compress="gzip"), *STREAM],
    "deflate, streamed": [status(200, compress="deflate"), *STREAM],
    "an encoding that nobody knows": [status(200, JSON, ("Content-Encoding", "br")), b64(NOISE[:999])],
    "gzip that is none": [status(200, JSON, ("Content-Encoding", "gzip")), {"bytes": "plain"}],
    "204": [status(204, ("X-A", "1"))],
    "304": [status(304, ("ETag", '"abc"'), ("Cache-Control", "max-age=5"))],
    "301": [status(301, ("Location", "/elsewhere?a=1#b")), {"bytes": "moved"}],
    "302 to another host": [status(302, ("Location", "http://169.254.169.254/"))],
    "307": [status(307, ("Location", "../x"))],
    "308": [status(308, ("Location", "http://127.0.0.1:1/v1/x"))],
    "cookies": [status(200, ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("set-cookie", "c=3"))],
    "repeated headers in order and case": [
        status(200, ("x-Z", "1"), ("X-a", "2"), ("x-z", "3"), ("X-Z", "1"), ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"))
    ],
    "header values": [status(200, ("X-Empty", ""), ("X-Latin", "\xe9 \xff"), ("X-Long", "y" * 7000), ("X-S", "a  b"))],
    "rate limits": [status(429, JSON, ("Retry-After", "2"), ("x-ratelimit-limit-tokens", "1")), {"error": "slow"}],
    "a reason of its own": [status(200, reason="Very Fine Indeed")],
    "no reason": [status(200, reason="")],
    "an unusual status": [status(299), {"bytes": "x"}],
    "the highest status": [status(599), {"bytes": "x"}],
    "chunks of odd sizes": raw("1\r\na\r\n", "10\r\n0123456789abcdef\r\n", "7\r\n\r\n\r\n\r\n\n\r\n", "0\r\n\r\n"),
    "capital and padded sizes": raw("A\r\n0123456789\r\n", "0001\r\nx\r\n", "0\r\n\r\n"),
    "a chunk in pieces": raw("5\r", "\nab", "cde\r\n0", "\r\n\r\n"),
    "chunk extensions": raw('3;name="v;1"\r\nabc\r\n', "0;last\r\n\r\n"),
    "trailers": raw("3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Time: 2\r\n\r\n"),
    **{str(code): [status(code, JSON), {"error": "no"}] for code in (400, 401, 403, 404, 408, 413, 418, 500, 502, 503)},
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
async def test_responses_pass_byte_by_byte(bench: Bench, name: str) -> None:
    """Status line, headers (with order, case and repetition) and the body with its framing are the upstream's."""
    direct, proxied = await bench.both(RESPONSES[name], request_bytes("POST", "/v1/chat/completions", body=b"{}"))
    assert proxied.head.split(b"\r\n")[0] == direct.head.split(b"\r\n")[0]
    assert passed_on(proxied.headers) == passed_on(direct.headers)
    assert proxied.body == direct.body
    assert not proxied.reset


async def test_hop_by_hop_headers_of_a_response_stay_behind(bench: Bench) -> None:
    """Headers that concern the upstream's connection, also those that `Connection` names, don't reach the client."""
    head = status(200, ("Keep-Alive", "timeout=5"), ("X-Stays", "1"), ("X-Goes", "2"), ("Connection", "close, x-goes"))
    _, proxied = await bench.both([head, {"bytes": "x"}], request_bytes("GET", "/v1/x"))
    assert proxied.headers == [
        ("Server", "dyno-simulate"),
        ("X-Stays", "1"),
        ("Content-Length", "1"),
        ("Connection", "close"),
    ]


async def test_interim_responses_pass(bench: Bench) -> None:
    """A 103 reaches the client unchanged, before the answer."""
    answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    direct, proxied = await bench.both([{"wire": answer}], request_bytes("GET", "/v1/x"))
    assert proxied.head == direct.head
    assert proxied.body.replace(b"Connection: close\r\n", b"") == direct.body


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_head_has_a_head_alone(bench: Bench, framing: str) -> None:
    """The answer to HEAD has no body and keeps its Content-Length."""
    script = [status(200, ("ETag", '"x"'), framing=framing), {"bytes": "12345"}]
    direct, proxied = await bench.both(script, request_bytes("HEAD", "/v1/x"))
    assert (proxied.status, proxied.body) == (200, b"")
    assert passed_on(proxied.headers) == passed_on(direct.headers)


async def test_a_connection_serves_many_requests(bench: Bench) -> None:
    """Pipelined requests on one connection are answered in order, even if some answers have no body."""
    bench.script = [status(200), {"bytes": "body"}]
    ask = b"%s /up/v1/%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    requests = [ask % (method, b"x") for method in (b"GET", b"HEAD", b"GET", b"OPTIONS", b"HEAD")]
    answer = await exchange(bench.proxy.url, b"".join(requests) + request_bytes("GET", "/up/v1/x"))
    everything = b"".join(data for _, data in answer.reads)
    assert everything.count(b"HTTP/1.1 200 OK\r\n") == 6
    assert everything.count(b"\r\n\r\nbody") == 4


async def test_reads_are_written_on_at_once(tmp_path: Path) -> None:
    """The endpoint writes an event once the client has the one before. A proxy that held one back would stop both."""
    have = asyncio.Semaphore(0)
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % number for number in range(20)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD)
        for event in events:
            writer.write(framed(event))
            await asyncio.wait_for(have.acquire(), LIMIT_S)
        writer.write(b"0\r\n\r\n")

    async with proxied(serve, tmp_path) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(ASK)
        for event in events:
            await asyncio.wait_for(reader.readuntil(framed(event)), LIMIT_S)
            have.release()
        assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), LIMIT_S) == b"0\r\n\r\n"
        writer.close()


async def test_http_1_0_gets_the_body_without_chunks(bench: Bench) -> None:
    """A client on HTTP/1.0 gets a chunked body's data until the end of the connection."""
    bench.script = STREAM
    answer = await exchange(bench.proxy.url, b"GET /up/v1/chat/completions HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert "transfer-encoding" not in {name.lower() for name, _ in answer.headers}
    assert answer.body.startswith(b'data: {"id"')
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("cut", ["reset", "close"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_broken_body_stays_broken(bench: Bench, framing: str, cut: str) -> None:
    """The proxy adds no end to a body that broke off. The client can see this, and has what came before."""
    head = status(200, ("Content-Length", "100"), framing="length") if framing == "length" else status(200)
    _, proxied = await bench.both(
        [head, {"bytes": "abc"}, {"wait_s": 0.05}, {"cut": cut}], request_bytes("GET", "/v1/x")
    )
    assert proxied.body in (b"abc", b"3\r\nabc\r\n")


@pytest.mark.parametrize(("framing", "version"), [("close", b"1.1"), ("close", b"1.0"), ("chunked", b"1.0")])
async def test_a_reset_of_an_unframed_body_is_a_reset(bench: Bench, framing: str, version: bytes) -> None:
    """If the connection's end is also the body's end, only a reset shows that the body broke off."""
    bench.script = [status(200, framing=framing), {"bytes": "abc"}, {"wait_s": 0.05}, {"cut": "reset"}]
    proxied = await exchange(bench.proxy.url, b"GET /up/v1/x HTTP/%b\r\nHost: localhost\r\n\r\n" % version)
    assert proxied.body == b"abc"
    assert proxied.reset


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def post(*headers: tuple[str, str], body: bytes = b"", target: str = "/v1/files", method: str = "POST") -> bytes:
    return request_bytes(method, target, *headers, body=body)


CHUNKED = ("Transfer-Encoding", "chunked")
REQUESTS: dict[str, bytes] = {
    **{method: post(method=method, body=b"x") for method in ("POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS")},
    **{f"{method}, empty": post(method=method) for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "PURGE")},
    "an empty body with a length": post(("Content-Length", "0")),
    "an escaped slash": post(target="/v1/files/a%2Fb%2fc/content"),
    "escapes": post(target="/v1/x%20y/%C3%A9/%zz/~!$&'()*+,;=:@"),
    "slashes": post(target="/v1//a///b/"),
    "dots in a name": post(target="/v1/a..b/.c/...d"),
    "no rest": post(target="/v1"),
    "a query": post(target="/v1/x?a=1&a=2&b=%2F&c=a+b&d&=&e=%20"),
    "a query with a path and a mark": post(target="/v1/x?u=http://h/p?q=1/../2"),
    "an empty query": post(target="/v1/x?"),
    "headers in order and case": post(("x-B", "1"), ("X-a", "2"), ("x-b", "3"), ("X-A", "2"), ("Cookie", "a=b")),
    "credentials of the client": post(("Authorization", "Bearer abc"), ("api-key", "k")),
    "trace headers": post(("traceparent", f"00-{'a' * 32}-{'b' * 16}-00"), ("tracestate", "x=y"), ("baggage", "a=1")),
    "encodings": post(("Accept-Encoding", "gzip, br, zstd"), ("Accept", "text/event-stream"), ("User-Agent", "é\xff")),
    "a compressed body": post(("Content-Encoding", "gzip"), body=gzip.compress(b'{"a":1}' * 99, mtime=0)),
    "odd json": post(("Content-Type", "application/json"), body=b'{ "stream" :\ttrue, "a":1, "a":2, "x":"\\ud800" }\n'),
    "binary": post(body=ALL_BYTES * 10),
    "large": post(body=NOISE),
    "multipart": post(("Content-Type", 'multipart/form-data; boundary="b"'), body=b"--b\r\n\r\n" + NOISE[:99_000]),
    "chunked": post(CHUNKED) + chunked(b"a", b"bc", ALL_BYTES, b"0\r\n\r\n"),
    "chunked, large": post(CHUNKED) + chunked(*(NOISE[at : at + 77_777] for at in range(0, len(NOISE), 77_777))),
    "chunked, empty": post(CHUNKED) + chunked(),
    "hop by hop": post(("Connection", "x-hop"), ("X-Hop", "1"), ("Keep-Alive", "5"), ("TE", "trailers"), ("X-E", "2")),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
async def test_requests_pass_byte_by_byte(bench: Bench, name: str) -> None:
    """Method, raw target, headers with order, case and repetition, and the body reach the upstream as sent."""
    direct, proxied = await bench.both([status(200), {"bytes": "x"}], REQUESTS[name])
    first, second = bench.upstream.requests[-2:]
    assert (direct.status, proxied.status) == (200, 200)
    assert (second.method, second.target) == (first.method, first.target)
    hop = OWN_TO_A_HOP | ({"x-hop"} if name == "hop by hop" else set())
    headers = [[(name, value) for name, value in each.headers if name.lower() not in hop] for each in (first, second)]
    assert headers[1] == headers[0]
    assert second.body == first.body
    framing = [
        [name.lower() for name, _ in each.headers if name.lower() == "transfer-encoding"] for each in (first, second)
    ]
    assert framing[1] == framing[0]
    host = dict(second.headers)["Host"]
    assert host == urlsplit(bench.upstream.url).netloc


@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_expect_100_continue(bench: Bench, size: int) -> None:
    """A client that sends `Expect: 100-continue` is told to go on by the proxy, not by the upstream.

    Its body arrives.
    """
    bench.script = [status(200), {"bytes": "x"}]
    parts = urlsplit(bench.proxy.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = request_bytes("POST", "/up/v1/files", ("Content-Length", str(size)), ("Expect", "100-continue"))
    async with asyncio.timeout(20):
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(NOISE[:size])
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert bench.upstream.last.body == NOISE[:size]
    assert "expect" not in {name.lower() for name, _ in bench.upstream.last.headers}


async def test_an_upload_is_passed_on_as_it_comes(bench: Bench) -> None:
    """The proxy doesn't collect the body: its first part is at the upstream before its last part is sent."""
    bench.script = [status(200), {"bytes": "x"}]
    parts = urlsplit(bench.proxy.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while not bench.upstream.arrived.empty():
        bench.upstream.arrived.get_nowait()
    async with asyncio.timeout(20):
        writer.write(request_bytes("POST", "/up/v1/files", ("Content-Length", "6")) + b"abc")
        received = await bench.upstream.arrived.get()
        assert received.body_ns == 0
        writer.write(b"def")
        answer = await reader.read()
    writer.close()
    assert answer.endswith(b"\r\n\r\nx")
    assert received.body == b"abcdef"


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_a_large_upload_streams(bench: Bench, framing: str) -> None:
    """Fifty megabytes of multipart reach the endpoint unchanged, and the proxy's memory hardly grows."""
    bench.script = [status(200), {"bytes": "x"}]
    body = b"--b\r\nContent-Disposition: form-data\r\n\r\n" + NOISE * 17 + b"\r\n--b--\r\n"
    multipart = ("Content-Type", "multipart/form-data; boundary=b")
    request = post(multipart, body=body) if framing == "sized" else post(multipart, CHUNKED) + chunked(body)
    memory = memory_of(bench.proxy)
    before = memory.begin()
    answer = await exchange(bench.proxy.url, request.replace(b" /v1", b" /up/v1", 1))
    assert (answer.status, answer.body) == (200, b"x")
    assert bench.upstream.last.body == body
    assert memory.peak() - before < 30_000_000


@pytest.mark.parametrize("compress", ["gzip", "deflate"])
async def test_the_meter_reads_a_copy_of_a_compressed_stream(bench: Bench, compress: str) -> None:
    """Compressed bytes pass unchanged, and the row still has its figures."""
    bench.script = [status(200, compress=compress), *STREAM]
    before = len(await bench.proxy.rows(bench.proxy.started()))
    await exchange(bench.proxy.url, request_bytes("POST", "/up/v1/chat/completions", body=b"{}"))
    row = (await bench.proxy.rows(before + 1))[-1]
    assert (row["outcome"], row["output_tokens"], row["reasoning_tokens"]) == ("ok", 6, 1)
    assert len(row["chunk_offsets_us"]) == 6


async def test_generated_responses_pass(bench: Bench) -> None:
    """Two hundred responses of random status, headers, framing, pieces and encoding are equal byte by byte."""
    draw = random.Random(20261123)  # noqa: S311 - the same responses in every run
    for _ in range(200):
        script = generated_response(draw)
        direct, proxied = await bench.both(script, request_bytes(draw.choice(("GET", "POST", "DELETE")), "/v1/any"))
        assert proxied.head.split(b"\r\n")[0] == direct.head.split(b"\r\n")[0], script
        assert passed_on(proxied.headers) == passed_on(direct.headers), script
        assert proxied.body == direct.body, script


async def test_each_request_left_one_row_and_one_outcome(bench: Bench) -> None:
    """After all tests above, requests started = rows = the sum of outcomes."""
    started = bench.proxy.started()
    rows = await bench.proxy.rows(started)
    assert len(rows) == started == bench.proxy.total("dyno_requests_total")
    assert started > 200
    assert {row["endpoint"] for row in rows} == {"up"}


def generated_response(draw: random.Random) -> Script:
    names, values = ("X-A", "x-a", "Set-Cookie", "Vary", "ETag", "x-request-id"), ("", "a", "b, c", "é", '"q"')
    headers = [(draw.choice(names), draw.choice(values)) for _ in range(draw.randrange(6))]
    framing = draw.choice(("chunked", "length", "close"))
    compress = draw.choice((None, None, "gzip", "deflate"))
    head = status(draw.choice((200, 201, 203, 206, 400, 404, 429, 500, 503)), *headers, framing=framing)
    steps: Script = [head | ({"compress": compress} if compress else {})]
    for _ in range(draw.randrange(5)):
        if draw.random() < 0.2:
            steps.append({"wait_s": 0.002})
        steps.append(b64(draw.randbytes(draw.choice((1, 2, 17, 1000, 70_000)))))
    return steps
