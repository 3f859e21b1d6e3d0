"""Originals of mirrored requests in a real `dyno proxy`: their copies never affect them."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rigs.dyno_command import cells, dyno
from rigs.mirror_rig import (
    ANSWER,
    BODY,
    CHAT,
    COPY,
    END,
    EVENT,
    HEAD,
    Answers,
    Upstream,
    answering,
    framed,
    silent,
    upstream_of,
)
from rigs.proxy_process import proxy_process
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import until


@asynccontextmanager
async def proxied(a: Upstream, b: str, folder: Path, more: str = "") -> AsyncIterator[RunningProxy]:
    """Endpoint `a` is mirrored to `b`. `plain` is the same upstream without a mirror."""
    async with in_thread(running_proxy(folder, {}, tables(a.url, b, more))) as proxy:
        yield proxy


def tables(a: str, b: str, more: str = "") -> str:
    return f"""
[endpoints.a]
url = "{a}"
model = "small"
mirror = {{ to = "b", share = 1.0, max_requests = 100 }}
[endpoints.plain]
url = "{a}"
[endpoints.b]
url = "{b}"
model = "large"
{more}"""


def chat(endpoint: str, *headers: tuple[str, str], method: str = "POST", rest: str = CHAT, body: bytes = BODY) -> bytes:
    return request_bytes(method, f"/{endpoint}/v1{rest}", *headers, body=body)


def mirrored(rows: list[dict[str, Any]], which: str) -> list[dict[str, Any]]:
    return [row for row in rows if row.get("attributes", {}).get("dyno.mirror") == which]


async def test_originals_and_copies_pair(tmp_path: Path) -> None:
    """Each of 20 requests at once has one copy, which names it and has its prompt id. Everything is counted."""
    async with (
        upstream_of(answering(ANSWER)) as a,
        upstream_of(answering(ANSWER)) as b,
        proxied(a, b.url, tmp_path) as proxy,
    ):
        answers = await asyncio.gather(*(exchange(proxy.url, chat("a")) for _ in range(20)))
        rows = await proxy.rows(40)
        originals, copies = mirrored(rows, "original"), mirrored(rows, "copy")
        assert {answer.content for answer in answers} == {EVENT + END}
        assert {body for _, body in a.requests} == {BODY}
        assert {body for _, body in b.requests} == {COPY}
        named = {(row["trace_id"], row["span_id"], row["prompt_id"]) for row in originals}
        assert named == {
            (row["attributes"]["dyno.mirror.trace_id"], row["attributes"]["dyno.mirror.span_id"], row["prompt_id"])
            for row in copies
        }
        assert (len(named), {row["outcome"] for row in rows}) == (20, {"ok"})
        assert proxy.total("dyno_mirror_copies_total") == 20
        assert 'dyno_mirror_copies_total{endpoint="a",result="sent"} 20.0' in proxy.metrics()
        assert proxy.started() == 40
        report = await asyncio.to_thread(dyno, "report", "--spans", proxy.spans, "--paired-by", "mirror")
        assert report.stdout.startswith("a against b: mirrored traffic\n"), report.stderr
        assert cells(report.stdout, "a, copied to b") == ["20", "20", "100.0 %", "20", "0", "0", "0"]
        assert cells(report.stdout, "latency a : b")[0] == "20"


FAULTS: list[tuple[str, Answers | None]] = [
    ("dead", None),
    ("silent", silent),
    ("garbage", answering(b"\x00\xff" * 100, times=1)),
    ("closing", answering(times=1)),
    ("failing", answering(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")),
    ("flooding", answering(HEAD, *[framed(b"data: x\n\n" * 2000)] * 100)),
]


@pytest.mark.parametrize("answers", [case[1] for case in FAULTS], ids=[case[0] for case in FAULTS])
async def test_a_mirror_that_fails_changes_nothing_for_the_original(tmp_path: Path, answers: Answers | None) -> None:
    """An original has the same bytes and outcome as a request without a mirror, and waits no longer than one beside
    it."""
    async with (
        upstream_of(answering(HEAD + framed(EVENT), framed(END), b"0\r\n\r\n")) as a,
        upstream_of(answers or silent) as b,
        proxied(a, b.url if answers else "http://127.0.0.1:9/v1", tmp_path, "timeouts = { total_s = 2 }") as proxy,
    ):
        answers_of: dict[str, set[bytes]] = {}
        for _ in range(5):
            for name in ("plain", "a"):
                answer = await exchange(proxy.url, chat(name))
                answers_of.setdefault(name, set()).add(answer.head + b"\r\n\r\n" + answer.body)
        assert len(answers_of["a"]) == 1
        assert answers_of["a"] == answers_of["plain"]
        assert a.requests[0::2] == a.requests[1::2]
        rows = [row for row in await proxy.rows(15) if row["endpoint"] != "b"]
        assert [row["outcome"] for row in rows] == ["ok"] * 10
        assert len(mirrored(rows, "original")) == 5
        assert max(row["duration_us"] for row in rows) < 2_000_000


async def test_a_client_that_leaves_takes_no_copy_with_it(tmp_path: Path) -> None:
    """If the client cuts its original off, the copy goes on to its end."""
    release = asyncio.Event()

    async def slow(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.read(reader)
        writer.write(HEAD + framed(EVENT))
        await release.wait()
        writer.write(framed(END) + b"0\r\n\r\n")

    async with upstream_of(silent) as a, upstream_of(slow) as b, proxied(a, b.url, tmp_path) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        writer.write(chat("a"))
        await until(lambda: b.requests, "a copy")
        writer.close()
        (original,) = await proxy.rows(1)
        release.set()
        rows = await proxy.rows(2)
        assert (original["endpoint"], original["outcome"]) == ("a", "client_cancelled")
        assert [(row["endpoint"], row["outcome"]) for row in rows[1:]] == [("b", "ok")]


async def test_what_is_not_mirrored(tmp_path: Path) -> None:
    """Requests without an operation, other methods and refused requests have no copy. Copies aren't mirrored again."""
    more = 'mirror = { to = "a", share = 1.0 }\n[proxy]\nmax_body_bytes = 1000\n'
    async with (
        upstream_of(answering(ANSWER)) as a,
        upstream_of(answering(ANSWER)) as b,
        proxied(a, b.url, tmp_path, more) as proxy,
    ):
        for request in (
            chat("a", method="GET", body=b""),
            chat("a", rest="/models", method="GET", body=b""),
            chat("a", rest="/files"),
            chat("a", body=BODY + b" " * 1000),
            chat("a", ("X_Y", "1")),
        ):
            await exchange(proxy.url, request)
        rows = await proxy.rows(5)
        assert [row["outcome"] for row in rows] == ["ok", "ok", "ok", "rejected", "rejected"]
        assert proxy.total("dyno_mirror_copies_total") == 0
        await exchange(proxy.url, chat("a"))
        await proxy.rows(7)
        await asyncio.sleep(0.6)
        assert sorted(row["endpoint"] for row in await proxy.rows(7)) == ["a"] * 6 + ["b"]
        assert len(b.requests) == 1


async def test_a_drain_does_not_wait_for_copies(tmp_path: Path) -> None:
    """SIGTERM ends the proxy with exit code 0 although a copy is running. The copy's row says why it ended."""
    async with upstream_of(answering(ANSWER)) as a, upstream_of(silent) as b:
        async with proxy_process(tmp_path, {}, proxy=tables(a.url, b.url)) as proxy:
            assert (await exchange(proxy.url, chat("a"))).status == 200
            await until(lambda: b.requests, "a copy")
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 0
        ends = sorted((row["endpoint"], row["outcome"], row.get("error_type", "")) for row in proxy.rows())
        assert ends == [("a", "ok", ""), ("b", "truncated", "proxy_shutdown")]
