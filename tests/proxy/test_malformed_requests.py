"""Malformed, ambiguous and smuggled requests: each has its answer and its row, and no hidden request is read."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dyno_proxy.config.schema import EndpointConfig
from dyno_proxy.upstream.endpoint import Endpoint
from rigs.malformed_cases import MALFORMED, Malformed, get, post
from rigs.proxy_in_process import ProxyInProcess, proxy_in_process
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import in_thread, running_proxy

_QUIET_S = 0.1
_PIECE = 9  # bytes; no line ends where a piece does, or nearly none

_SOUND = get(b"GET /up/v1/models HTTP/1.1", b"Connection: close")

# By the status: our own codes, and the parser's names for what it didn't like.
_ERROR_TYPES = {
    400: {"malformed_head", "BadHttpMessage", "BadHttpMethod", "BadStatusLine", "InvalidHeader", "InvalidURLError"},
    404: {"unknown_path", "unknown_endpoint"},
    431: {"head_too_long", "LineTooLong"},
    505: {"http_version"},
}


class Strict:
    """An upstream that reads requests strictly as RFC 9112 says."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []  # request lines
        self.whole: list[bytes] = []  # of those that were heard to their end
        self.unsound: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *headers = head[:-4].split(b"\r\n")
            if not re.fullmatch(rb"[A-Z]+ /[!-~]* HTTP/1\.1", line):
                self.unsound.append(head)
            lengths, codings = [], []
            for header in headers:
                match = re.fullmatch(rb"([!#$%&'*+.^`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)", header)
                if match is None:
                    self.unsound.append(head)
                elif match[1].lower() == b"content-length":
                    lengths.append(match[2])
                elif match[1].lower() == b"transfer-encoding":
                    codings.append(match[2])
            if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
                self.unsound.append(head)
            self.requests.append(line)
            if lengths:
                await reader.readexactly(int(lengths[0]))
            while codings:
                size = int(await reader.readuntil(b"\r\n"), 16)
                await reader.readexactly(size + 2)
                if not size:
                    break
            self.whole.append(line)
            target = line.split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))


@asynccontextmanager
async def proxied(spans: Path) -> AsyncIterator[tuple[ProxyInProcess, Strict]]:
    upstream = Strict()
    async with (
        raw_upstream(upstream.serve) as url,
        proxy_in_process(Endpoint("up", EndpointConfig(url=f"{url}/v1")), spans) as proxy,
    ):
        yield proxy, upstream


async def talk(url: str, *pieces: bytes, silent: bool = False) -> bytes:
    """All that comes back until the proxy closes or is quiet. `silent`: nothing is expected."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.001 * (len(pieces) > 1))
        while data := await asyncio.wait_for(reader.read(65536), _QUIET_S if got or silent else 5.0):
            got += data
    except (TimeoutError, ConnectionError):
        pass  # what was said before counts
    finally:
        writer.close()
    return got


def statuses(answers: bytes) -> tuple[int, ...]:
    return tuple(int(status) for status in re.findall(rb"HTTP/\d\.\d (\d{3}) ", answers))


@pytest.mark.parametrize("case", MALFORMED, ids=[case.name for case in MALFORMED])
async def test_malformed(tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Malformed) -> None:
    """The answers, the rows and what the upstream saw are right.

    Other requests are served as before, and the log is empty.
    """
    async with proxied(tmp_path) as (proxy, upstream):
        answers = await talk(proxy.url, case.request, silent=not case.statuses)
        assert statuses(answers) == case.statuses
        rows = [await proxy.row(number + 1) for number in range(len(case.outcomes))]
        assert tuple(row["outcome"] for row in rows) == case.outcomes
        for row in rows:
            if row["outcome"] == "rejected":
                assert row["error_type"] in _ERROR_TYPES[row["status"]]
        assert len(upstream.whole) == case.reached
        assert not [line for line in upstream.requests if b"hidden" in line]
        assert upstream.unsound == []
        assert statuses(await talk(proxy.url, _SOUND)) == (200,)
        assert (await proxy.row(len(rows) + 1))["outcome"] == "ok"
    assert caplog.records == []


async def test_all_of_them_at_once_in_small_pieces(tmp_path: Path) -> None:
    """In a real `dyno proxy`, however the reads fall, only requests pass, none is lost, and no other client is
    disturbed."""
    upstream = Strict()
    async with raw_upstream(upstream.serve) as url, in_thread(running_proxy(tmp_path, {"up": url + "/v1"})) as proxy:

        async def send(case: Malformed) -> None:
            begin = case.request[:600]
            pieces = [begin[at : at + _PIECE] for at in range(0, len(begin), _PIECE)]
            await talk(proxy.url, *pieces, case.request[600:], silent=not case.statuses)

        for at in range(0, len(MALFORMED), 50):
            neighbours = (talk(proxy.url, get(b"GET /up/v1/neighbour HTTP/1.1")) for _ in range(5))
            among, _ = await asyncio.gather(
                asyncio.gather(*neighbours), asyncio.gather(*map(send, MALFORMED[at : at + 50]))
            )
            assert all(answer.endswith(b"/v1/neighbour") for answer in among)
        await asyncio.sleep(0.5)  # for the last clients' leaving to be noticed
        started = proxy.started()
        rows = await proxy.rows(started)
        assert len(rows) == started == proxy.total("dyno_requests_total")
        outcomes = Counter(row["outcome"] for row in rows)
        assert set(outcomes) == {"ok", "rejected", "client_cancelled"}
        allowed = sum(case.strict for case in MALFORMED) + outcomes_of_neighbours(rows)
        assert outcomes["ok"] <= len(upstream.whole) <= allowed
        assert not [line for line in upstream.requests if b"hidden" in line]
        assert upstream.unsound == []
        assert "Traceback" not in proxy.log.read_text()
        assert "rror" not in proxy.log.read_text()


async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    """If hundreds of requests come in one write, with or without bodies, each gets its own answer."""
    targets = [b"/v1/x/%d" % number for number in range(300)]
    requests = [
        get(b"GET /up%b HTTP/1.1" % target)
        if number % 3
        else post(b"Content-Length: %d" % number, body=b"x" * number, target=b"/up" + target)
        for number, target in enumerate(targets)
    ]
    async with proxied(tmp_path) as (proxy, upstream):
        answers = await talk(proxy.url, b"".join(requests))
        expected = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(each), each) for each in targets]
        assert answers == b"".join(expected)
        assert [line.split(b" ")[1] for line in upstream.whole] == targets
        assert (await proxy.row(len(targets)))["outcome"] == "ok"


async def test_extensions_and_trailers_without_an_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is 400 once there are more bytes than a head may have.

    Neither the parser nor the upstream waits for more.
    """
    begin = post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n")
    endless = {
        "an extension": (b"5;", b"a" * 9_000),
        "extensions": (b"5", b";a=b" * 2_000),
        "a trailer": (b"0\r\nA: ", b"a" * 900),
        "trailers": (b"0\r\n", b"A: " + b"a" * 9_000 + b"\r\n"),
    }
    for number, (first, then) in enumerate(endless.values()):
        async with proxied(tmp_path / str(number)) as (proxy, upstream):
            await talk(proxy.url, begin, first, *[then] * 100)
            row = await proxy.row()
            assert (row["outcome"], row["status"], row["error_type"]) == ("rejected", 400, "malformed_body")
            assert (len(upstream.requests), upstream.whole) == (1, [])
            assert row["request_bytes"] == len(b"hello")
    assert [record for record in caplog.records if record.name != "asyncio"] == []  # which tells of the test's writes


def outcomes_of_neighbours(rows: list[dict[str, Any]]) -> int:
    return sum(row["path"] == "/up/v1/neighbour" for row in rows)


def test_there_are_enough_of_them() -> None:
    """No case's name occurs twice, so no case is lost, and there are as many cases as required."""
    assert Counter(case.name for case in MALFORMED).most_common(1)[0][1] == 1
    assert len(MALFORMED) >= 150
