"""`dyno proxy` as a real process, in front of an upstream that does at each moment what a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rigs.raw_http import post_json
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TARGET = "/e/v1/chat/completions"
ASK = post_json(TARGET, {"model": "m", "messages": []})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWER = HEAD + framed(EVENT) + framed(LAST) + b"0\r\n\r\n"


@asynccontextmanager
async def proxied(serve: Serve, folder: Path, endpoint: str = "", proxy: str = "") -> AsyncIterator[RunningProxy]:
    """`endpoint`: further lines of [endpoints.e]; `proxy`: further lines of [proxy]."""

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the proxy closed first: mostly this is what the test is about
        finally:
            writer.close()

    upstream = await asyncio.start_server(handled, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}/v1"
    config = f'[proxy]\n{proxy}\n[endpoints.e]\nurl = "{url}"\n{endpoint}'
    async with in_thread(running_proxy(folder, {}, config)) as running:
        yield running
    upstream.close()


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if length:
        await reader.readexactly(int(length[0].split(b":")[1]))


def answering(*pieces: tuple[float, bytes]) -> Serve:
    """Write each piece after its pause, then wait until the proxy closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for pause_s, piece in pieces:
            await asyncio.sleep(pause_s)
            writer.write(piece)
        await reader.read()

    return serve
