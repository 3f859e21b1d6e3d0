"""Generated exchanges, each sent directly and through `dyno proxy`: both messages are compared byte by byte.

A table says exactly what may differ (tests/rigs/differences.py, docs/transparency.md). A message behind the proxy must
be what the table makes of the message in front of it, and each row of the table must be needed.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from rigs.differences import DIFFERENCES, Difference, chunk, unchunk
from rigs.generated_exchanges import API, BATCHES, BEHIND, EXCHANGES, ODD_PATHS, Generated, batch
from rigs.raw_http import exchange as ask_once
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

# One upstream, one proxy and one loop for all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

BEFORE = "/up/v1"  # where a path begins in front of the proxy
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LIMIT_S = 20.0
NOTHING = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
DOCUMENT = Path(__file__).parents[2] / "docs" / "transparency.md"

ASK = b"GET /up/v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
REFUSED = {  # what docs/transparency.md says that the proxy refuses → (a request, the status)
    "`User-Agent`, `Content-Type`, `ETag`, `Server` or another header that may stand once, twice":
        (ASK + b"User-Agent: a\r\nUser-Agent: b\r\n\r\n", 400),
    "a header name with an underscore": (ASK + b"x_a: 1\r\n\r\n", 400),
    "a method that llhttp doesn't know": (ASK.replace(b"GET", b"FROB") + b"\r\n", 400),
    "more than 128 headers": (ASK + b"X: 1\r\n" * 130 + b"\r\n", 400),
    "bytes beyond ASCII in the target: they must be percent-encoded (RFC 3986, 2.1)":
        (ASK.replace(b"/x", "/ä".encode()) + b"\r\n", 400),
    "a path with dot segments": (ASK.replace(b"/x", b"/../x") + b"\r\n", 404),
    "an absolute-form target": (ASK.replace(b"/up", b"http://elsewhere/up") + b"\r\n", 404),
    "a folded header": (ASK + b"X: 1\r\n 2\r\n\r\n", 400),
}  # fmt: skip


@dataclass
class RawUpstream:
    """Keeps each request's bytes as they came, and answers with the current exchange's bytes."""

    current: Generated | None = None
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head == b"\r\n\r\n":  # an empty line before a request, directly
                head += await reader.readuntil(b"\r\n\r\n")
            if b"\r\nExpect:" in head:
                writer.write(CONTINUE)
            self.requests.append(head + await read_body(reader, head))
            exchange = self.current
            assert exchange is not None
            writer.write(exchange.response + exchange.surplus)
            await writer.drain()
            if exchange.ends:
                return


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = re.search(rb"\r\ncontent-length:[ \t]*(\d+)", head, re.IGNORECASE)
    if length:
        return await reader.readexactly(int(length.group(1)))
    if not re.search(rb"\r\ntransfer-encoding:", head, re.IGNORECASE):
        return b""
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        body += line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        body += await reader.readexactly(size + 2)
    while not body.endswith(b"\r\n\r\n"):
        body += await reader.readuntil(b"\r\n")
    return body


@dataclass
class Bench:
    upstream: RawUpstream
    upstream_url: str
    proxy: RunningProxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    upstream = RawUpstream()
    folder = tmp_path_factory.mktemp("proxy")
    async with raw_upstream(upstream.serve) as url, in_thread(running_proxy(folder, {"up": url + BEHIND})) as proxy:
        yield Bench(upstream, url, proxy)


class Client:
    """A client that sends requests on one connection as long as it lasts."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, exchange: Generated, request: bytes, size: int, *, ends: bool) -> bytes:
        """Read so many bytes of an answer, and all that follow if the connection `ends`."""
        if self._streams is None:
            parts = urlsplit(self._url)
            self._streams = await asyncio.open_connection(parts.hostname, parts.port)
        reader, writer = self._streams
        async with asyncio.timeout(LIMIT_S):
            if exchange.expects:
                head, end, body = request.lstrip().partition(b"\r\n\r\n")
                writer.write(head + end)
                assert await reader.readexactly(len(CONTINUE)) == CONTINUE
                request = body
            step = len(request) // exchange.pieces + 1
            for at in range(0, len(request), step):
                writer.write(request[at : at + step])
                await asyncio.sleep(0.002 if exchange.pieces > 1 else 0)
            try:
                answer = await reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                return error.partial
            if ends:
                answer += await reader.read()
                self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


@pytest.mark.parametrize("number", range(BATCHES))
async def test_behind_the_proxy_nothing_else_differs(bench: Bench, number: int) -> None:
    """In each request that the endpoint gets and each response that the client gets, only the table's rows differ."""
    proxied = Client(bench.proxy.url)
    for exchange in batch(number):
        bench.upstream.current = exchange
        direct = Client(bench.upstream_url)
        answer = await direct.ask(exchange, exchange.request, len(exchange.response), ends=False)
        direct.close()
        assert answer == exchange.response
        assert bench.upstream.requests[-1].lstrip() == exchange.request.lstrip()

        expected = exchange.expected_response()
        request = exchange.request.replace(f" {BEHIND}".encode(), f" {BEFORE}".encode(), 1)
        answer = await proxied.ask(
            exchange, request, len(expected.head + expected.body), ends="close" in expected.differences
        )
        assert answer == expected.head + expected.body, exchange
        seen_head, _, seen_body = bench.upstream.requests[-1].partition(b"\r\n\r\n")
        wanted = exchange.expected_request(urlsplit(bench.upstream_url).netloc.encode())
        assert seen_head + b"\r\n\r\n" == wanted.head, exchange
        if wanted.chunked:
            data = unchunk(seen_body)
            assert data == wanted.body
            assert re.fullmatch(rb"(?:[0-9a-f]+\r\n(?s:.)*\r\n)?0\r\n\r\n", seen_body)
        else:
            assert seen_body == wanted.body
    proxied.close()


async def test_a_trailer_is_no_header_of_the_next_request(bench: Bench) -> None:
    """Bytes behind one request's body never get into the head of another request, even on the same connection."""
    bench.upstream.current = Generated("POST", b"", b"", b"", False, False, [NOTHING], b"", b"", False, 1)
    before = len(bench.upstream.requests)
    with_trailer = (
        b"POST /up/v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-User: evil\r\n\r\n"
    )
    for between_s in (0.0, 0.1):
        parts = urlsplit(bench.proxy.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(with_trailer + (b"" if between_s else ASK + b"\r\n"))
        await asyncio.sleep(between_s)
        if between_s:
            writer.write(ASK + b"\r\n")
        async with asyncio.timeout(LIMIT_S):
            assert (await reader.read()).startswith(NOTHING[:12])
        writer.close()
    requests = bench.upstream.requests[before:]
    assert len(requests) >= 2
    assert not [request for request in requests if b"evil" in request]


def differences_shown() -> Counter[str]:
    """For each row, how many of the generated exchanges need it."""
    counts: Counter[str] = Counter()
    for number in range(BATCHES):
        for exchange in batch(number):
            counts.update(exchange.expected_request(b"h").differences | exchange.expected_response().differences)
    return counts


async def test_every_row_of_the_table_is_needed() -> None:
    """Each permitted difference occurs in the generated exchanges, and no other difference does."""
    counts = differences_shown()
    assert set(counts) == set(DIFFERENCES)
    assert BATCHES * EXCHANGES >= 400


async def test_the_generator_reaches_what_it_should() -> None:
    """All methods, framings, statuses and paths occur in the exchanges."""
    exchanges = [exchange for number in range(BATCHES) for exchange in batch(number)]
    assert {exchange.method for exchange in exchanges} >= {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"}
    assert {exchange.heads[-1][9:10] for exchange in exchanges} == {b"2", b"3", b"4", b"5"}
    for path in [*API, *ODD_PATHS]:
        assert any(f" {BEHIND}{path}".encode() in exchange.head for exchange in exchanges), path
    assert any(exchange.expects for exchange in exchanges)
    assert any(chunk(exchange.body) != exchange.wire_body != exchange.body for exchange in exchanges)


async def test_the_documentation_has_this_table() -> None:
    """docs/transparency.md names the same differences, with the same reasons."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (request|response) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert f"does {BATCHES * EXCHANGES} generated exchanges" in text
    assert [Difference(*row) for row in rows] == list(DIFFERENCES.values())


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_refused(bench: Bench, what: str) -> None:
    """A request that the documentation says doesn't pass is refused, and no part of it reaches the endpoint."""
    request, status = REFUSED[what]
    before = len(bench.upstream.requests)
    answer = await ask_once(bench.proxy.url, request)
    assert answer.status == status
    assert len(bench.upstream.requests) == before
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"| {what} | {status} |" in text


async def test_no_refusal_is_documented_without_a_test() -> None:
    """The documentation's list of refusals is the one above."""
    rows = re.findall(r"^\| (.+) \| (\d{3}) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(what, str(status)) for what, (_, status) in REFUSED.items()]


async def test_each_exchange_left_one_row(bench: Bench) -> None:
    """Requests started = rows = the sum of outcomes: no request was lost or counted twice."""
    started = bench.proxy.started()
    rows = await bench.proxy.rows(started)
    assert len(rows) == started == bench.proxy.total("dyno_requests_total")
