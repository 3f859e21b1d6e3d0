"""Paths beside `/v1`, and a doubled `/v1`, through a real `dyno proxy`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rigs.raw_http import exchange, request_bytes
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

CHAT = b'{"id":"a","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'


@asynccontextmanager
async def in_front_of(tmp_path: Path, path: str, keys: str = "") -> AsyncIterator[tuple[RunningProxy, list[str]]]:
    """A proxy whose endpoint `e` has this path in its url, and the targets that reach the endpoint."""
    came: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            came.append(head.split(b" ")[1].decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(CHAT))
            writer.write(CHAT)
            await writer.drain()

    async with raw_upstream(serve) as url:
        config = f'[endpoints.e]\nurl = "{url}{path}"\n{keys.format(url=url)}'
        async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
            yield proxy, came


@pytest.mark.parametrize(
    ("path", "keys", "asked", "comes"),
    [
        ("/v1", "", "/e/health", "/health"),
        ("/v1", "", "/e/metrics?x=1", "/metrics?x=1"),
        ("/v1/", "", "/e/tokenize", "/tokenize"),
        ("", "", "/e/version", "/version"),
        ("/api/v1", "", "/e/health", None),
        ("/api/v1", 'origin = "{url}/api"', "/e/health", "/api/health"),
        ("/api/v1", 'origin = "{url}"', "/e/health", "/health"),
        ("/api/v1", 'origin = "{url}/api/"', "/e/..%2fhealth", None),
        ("/v1", "", "/e/v1/v1/chat/completions", "/v1/chat/completions"),
        ("", "", "/e/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1", "", "/e/v1/v1/models", "/api/v1/models"),
        ("/v1", "", "/e/v1/..%2f..%2fadmin", None),
    ],
)
async def test_where_it_goes(tmp_path: Path, path: str, keys: str, asked: str, comes: str | None) -> None:
    """Paths beside /v1 go below the endpoint's origin, if it has one; the row names the endpoint in each case."""
    async with in_front_of(tmp_path, path, keys) as (proxy, came):
        answer = await exchange(proxy.url, request_bytes("GET", asked))
        (row,) = await proxy.rows(1)
    assert came == ([] if comes is None else [comes])
    assert answer.status == (404 if comes is None else 200)
    assert row["endpoint"] == "e"
    assert row.get("error_type") == ("unknown_path" if comes is None else None)


async def test_a_doubled_version_is_the_api(tmp_path: Path) -> None:
    """Its operation and its answer are known, as of the single one."""
    async with in_front_of(tmp_path, "/v1") as (proxy, _):
        body = b'{"model":"m","messages":[]}'
        await exchange(proxy.url, request_bytes("POST", "/e/v1/v1/chat/completions", body=body))
        (row,) = await proxy.rows(1)
    assert (row["operation"], row["model"], row["response_id"], row["outcome"]) == ("chat", "m", "a", "ok")
