"""Streams of SSE events under another Content-Type, in a real `dyno proxy`."""

import asyncio
from pathlib import Path

import pytest

from rigs.differences import chunk
from rigs.raw_http import exchange, post_json
from rigs.scripted_upstream import proxied, read_request

BEGIN = b'data: {"id":"c1","object":"chat.completion.chunk","created":1764000000,"model":"m","choices":['
TOKEN = BEGIN + b'{"index":0,"delta":{"content":"a"}}],"usage":null}\n\n'
LAST = BEGIN + b'{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = BEGIN + b'],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
ASKED = {"model": "m", "stream": True, "messages": []}


@pytest.mark.parametrize("ask_usage", [False, True], ids=["as it is", "ask_usage"])
@pytest.mark.parametrize("kind", [b"application/json", b"text/plain; charset=utf-8", b"application/octet-stream"])
async def test_a_stream_is_read_as_one(tmp_path: Path, kind: bytes, ask_usage: bool) -> None:
    """Its tokens, chunks and end are in the row. A usage chunk that the client didn't ask for is taken out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind)
        for event in (TOKEN, TOKEN, LAST, USAGE):
            writer.write(chunk(event).removesuffix(b"0\r\n\r\n"))
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(chunk(DONE))

    async with proxied(serve, tmp_path, f"ask_usage = {str(ask_usage).lower()}") as proxy:
        answer = await exchange(proxy.url, post_json("/e/v1/chat/completions", ASKED))
        (row,) = await proxy.rows(1)
    assert answer.content == TOKEN + TOKEN + LAST + (b"" if ask_usage else USAGE) + DONE
    assert (row["streamed"], row["outcome"], row["chunk_count"]) == (True, "ok", 2)
    assert (row["output_tokens"], row["usage_source"], row["finish_reasons"]) == (2, "server", ["stop"])
    assert row["first_token_us"] < row["last_token_us"]
