"""A refusal reaches a client that is still sending: a connection closed over unread bytes would be reset under it."""

import asyncio
from pathlib import Path

import pytest

from rigs.network import upstream
from rigs.proxy_process import ProxyProcess, proxy_process

BODY = b"x" * 3_000_000
SENT = b"Content-Length: %d\r\n\r\n" % len(BODY)
POST = b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
CASES: list[tuple[str, bytes, int]] = [
    ("not HTTP", b"\x16\x03\x01 garbage\r\n\r\n", 400),
    ("a bad header", POST + b"Bad Name: 1\r\n" + SENT, 400),
    ("an underscore", POST.replace(b"chat/completions", b"files") + b"Content_Length: 1\r\n" + SENT, 400),
    ("two lengths", POST + b"Content-Length: 1\r\n" + SENT, 400),
    ("a coding in HTTP/1.0", POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    ("a coding that isn't chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    ("a head that is too long", POST + b"A: " + b"a" * 3000 + b"\r\n" + SENT, 431),
    ("a head that never ends", POST + b"A: " + b"a" * 3000, 431),
    ("a body that is too long", POST + SENT, 413),
    ("no such endpoint", POST.replace(b"/e/", b"/nobody/") + SENT, 404),
    ("another host", POST.replace(b"localhost", b"evil.example") + SENT, 403),
    ("a foreign page", POST + b"Origin: https://evil.example\r\n" + SENT, 403),
]


async def send_all_then_read(proxy: ProxyProcess, head: bytes) -> bytes:
    """What a client gets that reads nothing before it has sent all. Raises ConnectionResetError if it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    try:
        writer.write(head)
        await writer.drain()
        await asyncio.sleep(0.05)  # meanwhile the proxy has answered
        for begin in range(0, len(BODY), 300_000):
            writer.write(BODY[begin : begin + 300_000])
            await writer.drain()
            await asyncio.sleep(0.005)
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(("head", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_a_refusal_arrives(tmp_path: Path, head: bytes, status: int) -> None:
    """Ten clients of ten get the answer whole, and then the connection's end."""
    limits = "max_head_bytes = 2048\nmax_body_bytes = 1000000"
    async with (
        upstream() as seen,
        proxy_process(tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}, proxy=limits) as proxy,
    ):
        answers = await asyncio.gather(*(send_all_then_read(proxy, head) for _ in range(10)))
        assert [answer.split(b" ", 2)[1] for answer in answers] == [b"%d" % status] * 10
        assert seen.heads == []
        assert all(answer.endswith(b"}}") for answer in answers)
    assert not [line for line in proxy.lines if "Traceback" in line]


CODINGS: list[tuple[str, bytes]] = [
    ("gzip", b"Transfer-Encoding: gzip\r\n"),
    ("identity", b"Transfer-Encoding: identity\r\n"),
    ("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ("gzip before chunked", b"Transfer-Encoding: gzip, chunked\r\n"),
    ("chunked before gzip", b"Transfer-Encoding: chunked, gzip\r\n"),
    ("with a length", b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
]


@pytest.mark.parametrize("upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Upgrade: h2c\r\n"])
@pytest.mark.parametrize("coding", [case[1] for case in CODINGS], ids=[case[0] for case in CODINGS])
async def test_codings_are_checked_with_an_upgrade_too(tmp_path: Path, coding: bytes, upgrade: bytes) -> None:
    """A coding other than chunked is refused, whatever else the request asks for. The connection ends with it."""
    async with (
        upstream() as seen,
        proxy_process(tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}) as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        writer.write(POST + upgrade + coding + b"\r\n" + b"GET /e/v1/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert (answer.split(b" ")[1], answer.count(b"HTTP/1.1 ")) == (b"400", 1)
        assert seen.heads == []
