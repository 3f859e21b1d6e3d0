"""Copies of requests: what they contain, what they leave out, which requests have one, and what ends them."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from dyno_proxy.config.schema import TimeoutsConfig, TokenConfig
from dyno_proxy.exchange.budget import ALL
from rigs.mirror_rig import (
    ANSWER,
    CHAT,
    COPY,
    EVENT,
    HEAD,
    Answers,
    Upstream,
    answering,
    framed,
    mirroring,
    silent,
    upstream_of,
)
from rigs.until import LIMIT_S, until

SECRETS = (
    b"Authorization", b"Cookie", b"X-Api-Key", b"api-key", b"Proxy-Authorization", b"X-Auth-Token", b"X-Goog-Api-Key",
    b"Ocp-Apim-Subscription-Key", b"X-Forwarded-For", b"OpenAI-Organization", b"Helicone-Auth", b"Idempotency-Key",
)  # fmt: skip
HARMLESS = ((b"content-type", b"application/json"), (b"Accept", b"text/event-stream"), (b"OpenAI-Beta", b"x=1"))


async def test_what_a_copy_is_on_the_wire(tmp_path: Path) -> None:
    """A copy has the other model's name, every other byte of the body, and our tags.

    It has no secret and no trace id of the client.
    """
    own = (
        *[(name, b"SECRET") for name in SECRETS],
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        (b"tracestate", b"SECRET=1"),
        (b"baggage", b"user=SECRET,dyno.prompt.id=q1"),
        (b"Host", b"proxy"),
        (b"Content-Length", b"999"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Expect", b"100-continue"),
        (b"Connection", b"keep-alive, User-Agent"),
        (b"User-Agent", b"SECRET"),
        *HARMLESS,
    )
    async with upstream_of(answering(ANSWER)) as upstream, mirroring(upstream.url, tmp_path) as rig:
        tags = {"dyno.prompt.id": "q 1,é", "dyno.repeat": 2, "dyno.warmup": True}
        rig.offer(headers=own, baggage={**tags, "dyno.send_lag_s": 0.5, "dyno.due_at_unix_us": 5})
        assert await rig.ended(1) == [("a", "sent")]
        ((head, body),) = upstream.requests
        assert body == COPY
        assert b"SECRET" not in head
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
        assert lines[1:-2] == [
            f"Host: 127.0.0.1:{upstream.port}",
            *[f"{name.decode()}: {value.decode()}" for name, value in HARMLESS],
            "baggage: dyno.prompt.id=q%201%2C%C3%A9,dyno.repeat=2,dyno.warmup=true",
            f"Content-Length: {len(COPY)}",
        ]


LONG = {
    "sound": (b'{"messages":["' + b"x" * 3_000_000 + b'"],"model":"small" ,"stream":true}', "sent"),
    "no model": (b'{"messages":["' + b"x" * 3_000_000 + b'"],"stream":true}', "not_json"),
    "cut off": (b'{"model":"small","messages":["' + b"x" * 3_000_000, "not_json"),
    "too complex": (b'{"model":"small"' + b',"k":1' * 500_000 + b"}", "not_json"),
}


@pytest.mark.parametrize("ask_usage", [False, True])
@pytest.mark.parametrize("name", LONG)
async def test_a_copy_of_a_long_request(tmp_path: Path, name: str, ask_usage: bool) -> None:
    """A long request is copied with the other model's name as a short one is, unless it takes too long to read."""
    body, result = LONG[name]
    async with (
        upstream_of(answering(ANSWER)) as upstream,
        mirroring(upstream.url, tmp_path, {"ask_usage": ask_usage}) as rig,
    ):
        used_bytes = ALL.used_bytes
        original = rig.offer(body)
        assert await rig.ended(1) == [("a", result)]
        expected = body.replace(b"small", b"large")
        if ask_usage:
            expected = expected.replace(b'"stream":true', b'"stream":true,"stream_options":{"include_usage":true}')
        assert [sent for _, sent in upstream.requests] == ([expected] if result == "sent" else [])
        rows = await rig.rows()
        assert [row["model"] for row in rows] == (["large"] if result == "sent" else [])
        assert ALL.used_bytes == used_bytes + original._kept_bytes
        original.release()


async def test_a_copy_has_its_endpoints_own_credentials_and_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy has the other endpoint's token. With `propagate` its traceparent is the copy's own span, as in its row."""
    monkeypatch.setenv("OTHER_TOKEN", "theirs")
    config = {"token": TokenConfig(env="OTHER_TOKEN"), "propagate": True}
    async with upstream_of(answering(ANSWER)) as upstream, mirroring(upstream.url, tmp_path, config) as rig:
        rig.offer(headers=((b"Authorization", b"Bearer mine"),))
        await rig.ended(1)
        ((head, _),) = upstream.requests
        (row,) = await rig.rows()
        assert b"\r\nAuthorization: Bearer theirs\r\n" in head
        assert b"mine" not in head
        assert f"\r\ntraceparent: 00-{row['trace_id']}-{row['span_id']}-01\r\n".encode() in head


async def test_what_a_copy_leaves(tmp_path: Path) -> None:
    """A copy has a row like any other, which names the original.

    Both have the same prompt id, and the original is marked.
    """
    async with upstream_of(answering(ANSWER)) as upstream, mirroring(upstream.url, tmp_path) as rig:
        original = rig.offer(baggage={"dyno.run.id": "r1", "dyno.send_lag_s": 0.5, "dyno.due_at_unix_us": 5})
        await rig.ended(1)
        tagged = rig.offer(baggage={"dyno.prompt.id": "q1"})
        await rig.ended(2)
        first, second = await rig.rows()
        assert (original.mirror, original.mirror_trace_id) == ("original", None)
        assert original.baggage["dyno.prompt.id"] == first["prompt_id"] == f"{0xDEF:016x}"
        assert original.baggage["dyno.send_lag_s"] == 0.5
        assert (tagged.baggage["dyno.prompt.id"], second["prompt_id"]) == ("q1", "q1")
        assert first["attributes"] == {
            "dyno.mirror": "copy",
            "dyno.mirror.trace_id": f"{0xABC:032x}",
            "dyno.mirror.span_id": f"{0xDEF:016x}",
            "server.address": "127.0.0.1",
            "server.port": str(upstream.port),
            "gen_ai.request.stream": "true",
            "dyno.endpoint.path": "/v1/chat/completions",
        }
        assert first["trace_id"] not in (f"{0xABC:032x}", second["trace_id"])
        assert "parent_span_id" not in first
        assert "send_lag_s" not in first
        assert "due_at_unix_us" not in first
        expected = {
            "endpoint": "b", "operation": "chat", "method": "POST", "path": "/b/v1/chat/completions", "model": "large",
            "outcome": "ok", "status": 200, "streamed": True, "run_id": "r1", "request_bytes": len(COPY),
            "chunk_count": 1, "connection_reused": False, "loop_lag_us": 0,
            "gc_pause_us": 0, "first_read_tokens": 1,
        }  # fmt: skip
        assert {key: first[key] for key in expected} == expected
        assert first["body_received_us"] <= first["connected_us"] <= first["sent_us"] <= first["first_token_us"]
        assert (first["overhead_us"] >= 0, second["connection_reused"]) == (True, True)


async def test_usage_is_asked_for_where_the_other_endpoint_is_configured_so(tmp_path: Path) -> None:
    """The endpoint's `ask_usage` holds for copies too, on paths that know the option. The row says so."""
    async with (
        upstream_of(answering(ANSWER)) as upstream,
        mirroring(upstream.url, tmp_path, {"ask_usage": True}) as rig,
    ):
        for count, rest in enumerate((CHAT, "/responses"), start=1):
            rig.offer(rest=rest)
            await rig.ended(count)
        assert [body for _, body in upstream.requests] == [
            COPY[:-1] + b',"stream_options":{"include_usage":true}}',
            COPY,
        ]
        rows = await rig.rows()
        assert [row["attributes"].get("dyno.usage.asked") for row in rows] == ["true", None]


# Which requests are mirrored


async def test_share(tmp_path: Path) -> None:
    """Each request is chosen independently, as often as the share says.

    Nothing is recorded of the mirror for the others.
    """
    async with mirroring("http://127.0.0.1:9/v1", tmp_path, share=0.25, max_requests=400) as rig:
        originals = [rig.offer(body=b"{}") for _ in range(400)]
        await asyncio.sleep(0.1)
        assert set(rig.results) == {("a", "not_json")}
        assert 50 < len(rig.results) < 150  # of 100, by five standard deviations
        assert {original.mirror for original in originals} == {None}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"model":5}', b"[1]", b"\x1f\x8b\x08", b'{"model":"m"'])
async def test_a_body_without_a_model_is_not_mirrored(tmp_path: Path, body: bytes) -> None:
    """There is no copy, no row, and no mark on the original. The reason is counted."""
    async with upstream_of(answering(ANSWER)) as upstream, mirroring(upstream.url, tmp_path) as rig:
        original = rig.offer(body=body)
        assert await rig.ended(1) == [("a", "not_json")]
        assert (original.mirror, original.baggage) == (None, {})
        assert (upstream.connections, await rig.rows()) == (0, [])


async def test_no_more_copies_under_way_than_the_limit(tmp_path: Path) -> None:
    """Beyond the limit a request isn't mirrored, and this is counted. Once a copy has ended, the next one is sent."""
    release = asyncio.Event()

    async def serve(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.read(reader)
        await release.wait()
        writer.write(ANSWER)

    async with upstream_of(serve) as upstream, mirroring(upstream.url, tmp_path, max_requests=2) as rig:
        originals = [rig.offer() for _ in range(5)]
        assert rig.results == [("a", "limit")] * 3
        await asyncio.sleep(0)
        assert [original.mirror for original in originals] == ["original", "original", None, None, None]
        release.set()
        await rig.ended(5)
        rig.offer()
        assert (await rig.ended(6))[3:] == [("a", "sent")] * 3
        assert len(upstream.requests) == 3


# What the other endpoint does


BAD: list[tuple[str, Answers, dict[str, Any], tuple[str, str | None]]] = [
    ("not found", answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), {}, ("http_error", "404")),
    ("busy", answering(b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"), {"retries": 3}, ("rate_limited", "429")),
    ("garbage", answering(b"SSH-2.0-OpenSSH_9.2\r\n"), {}, ("upstream_unreachable", "upstream_protocol_error")),
    ("a cut", answering(HEAD + framed(EVENT), times=1), {}, ("truncated", "connection_closed")),
    ("a close", answering(times=1), {"retries": 3}, ("upstream_unreachable", "connection_closed")),
    ("silence", silent, {"timeouts": TimeoutsConfig(total_s=0.2)}, ("upstream_timeout", "total_timeout")),
    ("no first byte", silent, {"timeouts": TimeoutsConfig(first_byte_s=0.2)},
     ("upstream_timeout", "first_byte_timeout")),
    ("an endless head", answering(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000), {},
     ("upstream_unreachable", "upstream_protocol_error")),
    ("an endless body", answering(HEAD, *[framed(b"data: x\n\n" * 5000)] * 400),
     {"timeouts": TimeoutsConfig(total_s=0.3)}, ("upstream_timeout", "total_timeout")),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "config", "end"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_an_endpoint_that_fails(
    tmp_path: Path, answers: Answers, config: dict[str, Any], end: tuple[str, str | None]
) -> None:
    """Each failure has its outcome after one attempt, and no connection is left."""
    async with upstream_of(answers) as upstream, mirroring(upstream.url, tmp_path, config) as rig:
        rig.offer()
        assert await rig.ended(1) == [("a", "sent")]
        (row,) = await rig.rows()
        assert (row["outcome"], row["error_type"]) == end
        assert len(upstream.requests) == 1
        rig.b.pool.close()
        await until(lambda: not upstream.open, "the connections to close")


async def test_an_endpoint_that_is_down_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every copy has its row. The log has one line for all of them, and one for the endpoint."""
    async with mirroring("http://127.0.0.1:9/v1", tmp_path, max_requests=50) as rig:
        with caplog.at_level(logging.WARNING, "dyno.proxy"):
            for _ in range(20):
                rig.offer()
            assert await rig.ended(20) == [("a", "failed")] * 20
        ends = [(row["outcome"], row["error_type"]) for row in await rig.rows()]
        assert ends == [("upstream_unreachable", "connection_refused")] * 20
        assert sorted(record.message for record in caplog.records) == [
            "endpoint 'b' is down: connection refused (127.0.0.1:9)",
            "mirror: no copies to 'b': connection refused at 127.0.0.1:9",
        ]


async def test_a_fault_of_ours_stays_with_the_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen exception (here a path that can't be encoded) is counted, recorded and logged once, and goes no
    further."""
    async with upstream_of(silent) as upstream, mirroring(upstream.url, tmp_path) as rig:
        with caplog.at_level(logging.WARNING, "dyno.proxy"):
            for _ in range(3):
                rig.offer(rest=CHAT + "\ud800")
            assert await rig.ended(3) == [("a", "failed")] * 3
        ends = [(row["outcome"], row["error_type"]) for row in await rig.rows()]
        assert (ends, upstream.connections) == ([("rejected", "proxy_UnicodeEncodeError")] * 3, 0)
        assert [record.message for record in caplog.records] == ["mirror: a copy of a request to 'a' failed"]


async def test_no_token_no_copy(tmp_path: Path) -> None:
    """If the proxy can't get the other endpoint's token, nothing is sent, and the row says why."""
    config = {"token": TokenConfig(command="false")}
    async with upstream_of(silent) as upstream, mirroring(upstream.url, tmp_path, config) as rig:
        rig.offer()
        assert await rig.ended(1) == [("a", "failed")]
        (row,) = await rig.rows()
        assert (row["outcome"], row["error_type"], upstream.connections) == ("rejected", "token_unavailable", 0)


async def test_a_refused_token_is_fetched_anew(tmp_path: Path) -> None:
    """After a 401 the other endpoint's token counts as expired, as with clients' own requests."""
    token = tmp_path / "token"
    token.write_text("old")
    config = {"token": TokenConfig(file=str(token))}
    refused = answering(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    async with upstream_of(refused) as upstream, mirroring(upstream.url, tmp_path / "spans", config) as rig:
        rig.offer()
        await rig.ended(1)
        token.write_text("new")
        rig.offer()
        await rig.ended(2)
        sent = [head.partition(b"Authorization: ")[2].partition(b"\r\n")[0] for head, _ in upstream.requests]
        assert sent == [b"Bearer old", b"Bearer new"]


async def test_a_stale_connection_is_replaced_once(tmp_path: Path) -> None:
    """If the endpoint closes an idle connection just then, no copy fails, because nothing had come back."""
    served = 0

    async def serve(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await upstream.read(reader)
        served += 1
        writer.write(ANSWER)
        await reader.readuntil(b"\r\n\r\n")  # the next request's head, and hangs up on it

    async with upstream_of(serve) as upstream, mirroring(upstream.url, tmp_path) as rig:
        for count in (1, 2, 3):
            rig.offer()
            await rig.ended(count)
        rows = await rig.rows()
        assert [(row["outcome"], row["connection_reused"]) for row in rows] == [("ok", False)] * 3
        assert (served, upstream.connections) == (3, 3)


async def test_the_end_cuts_copies_off(tmp_path: Path) -> None:
    """`close` waits for no answer. Each running copy leaves its row, and no further copy is made."""
    async with upstream_of(silent) as upstream, mirroring(upstream.url, tmp_path) as rig:
        rig.offer()
        rig.offer()
        await until(lambda: len(upstream.requests) == 2, "two copies")
        await asyncio.wait_for(rig.mirror.close(), LIMIT_S)
        assert rig.results == [("a", "sent")] * 2
        ends = [(row["outcome"], row["error_type"]) for row in await rig.rows()]
        assert ends == [("truncated", "proxy_shutdown")] * 2
        rig.offer()
        await asyncio.sleep(0.05)
        assert (len(rig.results), len(upstream.requests), upstream.open) == (2, 2, 0)
