"""Malformed, ambiguous and smuggled requests: each has its answer and its row, and what is hidden stays unread."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dyno_proxy.config import EndpointConfig
from dyno_proxy.endpoints import Endpoint
from malformed_cases import MALFORMED, Malformed, get
from proxy_in_process import ProxyInProcess, proxy_in_process
from raw_upstream import raw_upstream

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_QUIET_S = 0.1


class Strict:
    """An upstream that reads as RFC 9112 has it, and no other way."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []  # request lines
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
            writer.write(_ANSWER)


@asynccontextmanager
async def proxied(spans: Path) -> AsyncIterator[tuple[ProxyInProcess, Strict]]:
    upstream = Strict()
    async with (
        raw_upstream(upstream.serve) as url,
        proxy_in_process(Endpoint("up", EndpointConfig(url=f"{url}/v1")), spans) as proxy,
    ):
        yield proxy, upstream


async def answers(proxy: ProxyInProcess, request: bytes) -> list[int]:
    """The statuses of all that comes back, until the proxy closes or is quiet."""
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    try:
        writer.write(request)
        while data := await asyncio.wait_for(reader.read(65536), 5.0 if not got else _QUIET_S):
            got += data
    except (TimeoutError, ConnectionResetError):
        pass  # what was said before counts
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"HTTP/\d\.\d (\d{3}) ", got)]


@pytest.mark.parametrize("case", MALFORMED, ids=[case.name for case in MALFORMED])
async def test_malformed(tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Malformed) -> None:
    """The answers, the rows and what the upstream saw; others are served as before, and nothing is in the log."""
    async with proxied(tmp_path) as (proxy, upstream):
        assert tuple(await answers(proxy, case.request)) == case.statuses
        rows = [await proxy.row(number + 1) for number in range(len(case.outcomes))]
        assert tuple(row["outcome"] for row in rows) == case.outcomes
        assert len(upstream.requests) == case.reached
        assert not [line for line in upstream.requests if b"hidden" in line]
        assert upstream.unsound == []
        assert await answers(proxy, get()) == [200]
        assert (await proxy.row(len(rows) + 1))["outcome"] == "ok"
    assert caplog.records == []


def test_there_are_enough_of_them() -> None:
    """No name twice, so that none is lost; and as many as were asked for."""
    assert Counter(case.name for case in MALFORMED).most_common(1)[0][1] == 1
    assert len(MALFORMED) >= 150
