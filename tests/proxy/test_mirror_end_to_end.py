"""A mirror from the client's request to the report's comparison, in a real `dyno proxy`."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dyno_proxy.rewrite.request_body import asking_usage
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
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import until

SECRETS = (
    ("Authorization", "Bearer MINE"),
    ("Cookie", "session=MINE"),
    ("X-Api-Key", "MINE"),
    ("X-Custom-Auth", "MINE"),
    ("baggage", "user=MINE"),
)


def pausing(seconds: float) -> Answers:
    """Each request has its first token at once, and its end after the given time."""

    async def serve(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await upstream.read(reader)
            writer.write(HEAD + framed(EVENT))
            await asyncio.sleep(seconds)
            writer.write(framed(END) + b"0\r\n\r\n")

    return serve


@asynccontextmanager
async def proxied(
    a: Upstream, b: Upstream, folder: Path, *, max_requests: int = 100, keys: tuple[str, str] = ("", "")
) -> AsyncIterator[RunningProxy]:
    """Endpoint `a` is mirrored to `b`.

    `plain` is like `a`, but without a mirror. `keys`: one more line for each of the two.
    """
    config = f"""
[endpoints.a]
url = "{a.url}"
mirror = {{ to = "b", share = 1.0, max_requests = {max_requests} }}
{keys[0]}
[endpoints.plain]
url = "{a.url}"
[endpoints.b]
url = "{b.url}"
model = "large"
{keys[1]}
"""
    environment = {"OTHER_TOKEN": "theirs"}
    async with in_thread(running_proxy(folder, {}, config, environment)) as proxy:
        yield proxy


def chat(endpoint: str, *headers: tuple[str, str], query: str = "") -> bytes:
    return request_bytes("POST", f"/{endpoint}/v1{CHAT}{query}", *headers, body=BODY)


def selected(proxy: RunningProxy, statement: str) -> list[dict[str, Any]]:
    done = dyno("sql", statement, "--spans", proxy.spans, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


async def test_a_copy_is_the_other_endpoints_own(tmp_path: Path) -> None:
    """The copy has the other endpoint's model and token.

    From the client it has only the body: no header, cookie or query.
    """
    async with (
        upstream_of(answering(ANSWER)) as a,
        upstream_of(answering(ANSWER)) as b,
        proxied(a, b, tmp_path, keys=("ask_usage = true", 'token.env = "OTHER_TOKEN"')) as proxy,
    ):
        answer = await exchange(proxy.url, chat("a", *SECRETS, query="?key=MINE"))
        assert (answer.status, answer.content) == (200, EVENT + END)
        await proxy.rows(2)
        ((original, original_body),), ((copy, copy_body),) = a.requests, b.requests
    assert original_body == asking_usage(BODY)
    for name, value in SECRETS:
        assert f"\r\n{name}: {value}\r\n".encode() in original
    assert original.startswith(f"POST /v1{CHAT}?key=MINE HTTP/1.1\r\n".encode())
    assert b"theirs" not in original
    assert copy_body == COPY
    assert b"MINE" not in copy
    assert b"\r\nAuthorization: Bearer theirs\r\n" in copy
    assert copy.startswith(f"POST /v1{CHAT} HTTP/1.1\r\n".encode())


async def test_rows_pair_and_the_report_compares_them(tmp_path: Path) -> None:
    """Each copy names its original and has its prompt id. The report says which endpoint was faster for these users."""
    async with (
        upstream_of(pausing(0.02)) as a,
        upstream_of(pausing(0.2)) as b,
        proxied(a, b, tmp_path) as proxy,
    ):
        for prompt in range(12):
            baggage = [("baggage", f"dyno.prompt.id=q{prompt}")] if prompt % 2 else []  # a client's own, or ours
            assert (await exchange(proxy.url, chat("a", *baggage))).content == EVENT + END
        await proxy.rows(24)
        pairs = await asyncio.to_thread(
            selected,
            proxy,
            """
            SELECT original.prompt_id, original.model, copy.model AS other, original.trace_id <> copy.trace_id AS apart
            FROM spans AS original JOIN spans AS copy
            ON copy.attributes['dyno.mirror.trace_id'] = original.trace_id
            AND copy.attributes['dyno.mirror.span_id'] = original.span_id AND copy.prompt_id = original.prompt_id
            WHERE original.endpoint = 'a' AND original.attributes['dyno.mirror'] = 'original'
            AND copy.endpoint = 'b' AND copy.attributes['dyno.mirror'] = 'copy'""",
        )
        report = await asyncio.to_thread(dyno, "report", "--spans", proxy.spans, "--paired-by", "mirror")
    assert len({pair["prompt_id"] for pair in pairs}) == len(pairs) == 12
    assert {pair["prompt_id"] for pair in pairs} > {f"q{prompt}" for prompt in range(1, 12, 2)}
    assert {(pair["model"], pair["other"], pair["apart"]) for pair in pairs} == {("small", "large", True)}
    assert report.returncode == 0, report.stderr
    assert report.stdout.startswith("a against b: mirrored traffic\n")
    assert cells(report.stdout, "a, copied to b") == ["12", "12", "100.0 %", "12", "0", "0", "0"]
    assert cells(report.stdout, "latency a : b")[0] == "12"
    assert cells(report.stdout, "latency a : b")[-1] == "b slower"


async def test_a_mirror_that_stalls_slows_nothing(tmp_path: Path) -> None:
    """Even if dozens of copies hang, mirrored requests take as long as requests without a mirror."""
    async with (
        upstream_of(answering(HEAD + framed(EVENT) + framed(END) + b"0\r\n\r\n")) as a,
        upstream_of(silent) as b,
        proxied(a, b, tmp_path) as proxy,
    ):
        took_s: dict[str, list[float]] = {"plain": [], "a": []}
        answers: set[tuple[bytes, bytes]] = set()
        for _ in range(60):
            for name, times in took_s.items():
                begun_s = time.monotonic()
                answer = await exchange(proxy.url, chat(name))
                times.append(time.monotonic() - begun_s)
                answers.add((answer.head, answer.body))
        await until(lambda: len(b.requests) == 60, "60 copies")
        assert b.open == 60
    assert len(answers) == 1
    plain_s, mirrored_s = (statistics.median(times) for times in took_s.values())
    print(f"median of 60: {plain_s * 1e6:.0f} µs without, {mirrored_s * 1e6:.0f} µs with a mirror that stalls")
    assert mirrored_s < 1.5 * plain_s + 0.002


async def test_beyond_its_limit_a_request_has_no_copy(tmp_path: Path) -> None:
    """The number of running copies is limited.

    Requests that are left out are counted, and aren't marked as originals.
    """
    async with (
        upstream_of(answering(ANSWER)) as a,
        upstream_of(silent) as b,
        proxied(a, b, tmp_path, max_requests=2) as proxy,
    ):
        for _ in range(5):
            assert (await exchange(proxy.url, chat("a"))).status == 200
        rows = await proxy.rows(5)
        marked = [row.get("attributes", {}).get("dyno.mirror") for row in rows]
        assert sorted(marked, key=str) == [None, None, None, "original", "original"]
        assert 'dyno_mirror_copies_total{endpoint="a",result="limit"} 3.0' in proxy.metrics()
        assert len(b.requests) == 2
