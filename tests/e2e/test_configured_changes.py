"""What the proxy changes if it is configured to: each row of the table in docs/transparency.md is checked on the
wire."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rigs.differences import chunk
from rigs.raw_http import exchange
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "transparency.md"

# Each key's rows are what the tests below, by its name, look at.
CHANGES: Final = [
    ("token", "request", "`Authorization` with the endpoint's token takes the place of the client's, and comes last"),
    (
        "propagate",
        "request",
        (
            "`traceparent` with this request's own span takes the place of the client's, and comes last; the trace and"
            " its sampled flag stay"
        ),
    ),
    ("keys_file", "request", "`Authorization` and `X-Api-Key` end at the proxy"),
    (
        "proxy",
        "request",
        (
            "of an `http` endpoint: the target is in absolute form, and `Proxy-Authorization` comes last if the URL"
            " names a user"
        ),
    ),
    (
        "ask_usage",
        "request",
        (
            '`"stream_options":{"include_usage":true}` is put into the body, or `"include_usage":true` into the'
            " `stream_options` that are there; every other byte stays"
        ),
    ),
    (
        "ask_usage",
        "request",
        "the body is sent once it is here as a whole, with a `Content-Length` also where the client sent it chunked",
    ),
    (
        "ask_usage",
        "request",
        "`Accept-Encoding: identity` takes the place of the client's; it and `Content-Length` come last",
    ),
    ("ask_usage", "response", "the usage chunk is taken out, with the empty line that ends it"),
    (
        "ask_usage",
        "response",
        "the body is chunked anew, however it was framed; `Content-Length`, `Trailer` and trailers are dropped",
    ),
]

BODY: Final = b'{"model": "m", "stream": true}'
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SENT: Final = (
    "X-A: 1",
    "Authorization: Bearer mine",
    "X-Api-Key: mine",
    f"traceparent: {TRACE}",
    "Accept-Encoding: gzip",
    "x-b: 2",
)
TOKEN: Final = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}\n\n'
USAGE: Final = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\n'
DONE: Final = b"data: [DONE]\n\n"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@dataclass
class Scene:
    proxy: RunningProxy
    host: str  # the upstream's
    requests: list[tuple[list[str], bytes]] = field(default_factory=list)  # lines of the head, body
    answer: bytes = OK + b"Content-Length: 0\r\n\r\n"

    async def ask(self, *headers: str, body: bytes = BODY) -> bytes:
        """Send the request to endpoint `e`. Returns all that comes back."""
        if "Transfer-Encoding: chunked" not in headers:
            headers += (f"Content-Length: {len(body)}",)
        lines = ("POST /e/v1/chat/completions?a=1 HTTP/1.1", "Host: localhost", *headers, "Connection: close", "", "")
        answer = await exchange(self.proxy.url, "\r\n".join(lines).encode() + body)
        return b"".join(data for _, data in answer.reads)


@asynccontextmanager
async def scene(folder: Path, endpoint: str = "", proxy: str = "", url: str | None = None) -> AsyncIterator[Scene]:
    """`endpoint`: a key of [endpoints.e], where {} is the upstream's address; `proxy`: one of [proxy]."""
    made: list[Scene] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"\r\nContent-Length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        made[0].requests.append((head.split("\r\n")[:-2], body))
        writer.write(made[0].answer)

    async with raw_upstream(serve) as upstream:
        host = upstream.removeprefix("http://")
        table = f'[endpoints.e]\nurl = "{url or upstream + "/base"}"\n{endpoint.replace("{}", host)}\n'
        config = f"[proxy]\n{proxy}\n{table}"
        async with in_thread(running_proxy(folder, {}, config, {"THE_TOKEN": "theirs"})) as running:
            made.append(Scene(running, host))
            yield made[0]


def without(*names: str) -> list[str]:
    """The client's headers as they reach the endpoint, without the given ones."""
    return [line for line in (*SENT, f"Content-Length: {len(BODY)}") if line.partition(":")[0] not in names]


async def test_token(tmp_path: Path) -> None:
    """The client's own Authorization is gone; all other headers are where they were."""
    async with scene(tmp_path, 'token.env = "THE_TOKEN"') as s:
        await s.ask(*SENT)
        ((head, body),) = s.requests
        assert head[2:] == [*without("Authorization"), "Authorization: Bearer theirs"]
        assert (head[:2], body) == (["POST /base/chat/completions?a=1 HTTP/1.1", f"Host: {s.host}"], BODY)


async def test_propagate(tmp_path: Path) -> None:
    """The endpoint's spans become children of our span, which is a child of the client's."""
    async with scene(tmp_path, "propagate = true") as s:
        await s.ask(*SENT)
        (row,) = await s.proxy.rows(1)
        ((head, _),) = s.requests
        ours = f"traceparent: {TRACE[:35]}-{row['span_id']}-00"
        assert head[2:] == [*without("traceparent"), ours]
        assert row["parent_span_id"] == TRACE[36:52]


async def test_keys_file(tmp_path: Path) -> None:
    """A client's key is only for the proxy, whichever of the two headers it came in."""
    keys = tmp_path / "keys"
    keys.write_text("mine\n")
    async with scene(tmp_path, proxy=f'keys_file = "{keys}"') as s:
        await s.ask(*SENT)
        ((head, _),) = s.requests
        assert head[2:] == without("Authorization", "X-Api-Key")


async def test_proxy(tmp_path: Path) -> None:
    """An HTTP proxy gets the whole URL, and the password that the configuration has for it."""
    async with scene(tmp_path, 'proxy = "http://user:pass@{}"', url="http://elsewhere.example/base") as s:
        await s.ask(*SENT)
        ((head, _),) = s.requests
        assert head[0] == "POST http://elsewhere.example/base/chat/completions?a=1 HTTP/1.1"
        assert head[1:] == ["Host: elsewhere.example", *without(), "Proxy-Authorization: Basic dXNlcjpwYXNz"]


async def test_ask_usage(tmp_path: Path) -> None:
    """Each row of `ask_usage`: the body, its framing, the encoding, and the stream without the usage chunk, framed
    again."""
    asking = b'{"model": "m", "stream": true,"stream_options":{"include_usage":true}}'
    trailers = chunk(TOKEN, USAGE, DONE).removesuffix(b"\r\n") + b"X-Sum: 1\r\n\r\n"
    async with scene(tmp_path, "ask_usage = true") as s:
        for framing, wire in (
            (b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n", trailers),
            (b"Content-Length: %d\r\n" % len(TOKEN + USAGE + DONE), TOKEN + USAGE + DONE),
            (b"", TOKEN + USAGE + DONE),
        ):
            s.answer = OK + framing + b"x: 1\r\n\r\n" + wire
            came = await s.ask(*SENT)
            head, body = s.requests[-1]
            assert body == asking
            assert head[2:] == [
                *without("Accept-Encoding", "Content-Length"),
                "Accept-Encoding: identity",
                f"Content-Length: {len(asking)}",
            ]
            assert came == (
                OK + b"x: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk(TOKEN + DONE)
            )
        await s.ask("Transfer-Encoding: chunked", body=chunk(BODY[:9], BODY[9:]))
        head, body = s.requests[-1]
        assert (head[2:], body) == (["Accept-Encoding: identity", f"Content-Length: {len(asking)}"], asking)
        for options, changed in (
            (b'{ "x": [1] }', b'{"include_usage":true, "x": [1] }'),
            (b'{"include_usage":false}', b'{"include_usage":true}'),
            (b"null", b'{"include_usage":true}'),
        ):
            await s.ask(body=BODY.replace(b"{", b'{"stream_options" : ' + options + b",\n"))
            assert s.requests[-1][1] == BODY.replace(b"{", b'{"stream_options" : ' + changed + b",\n")


def test_the_documentation_has_this_table() -> None:
    """docs/transparency.md names the same changes, and each key has its test here."""
    rows = re.findall(r"^\| `(\w+)` \| (request|response) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert rows == CHANGES
    assert {f"test_{key}" for key, _, _ in CHANGES} <= set(globals())
