"""Who asked, and what for: what a row says of the client and of the request, whatever form its body has."""

import gzip
import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from dyno_driver.simulation.server import Received
from rigs.fake_upstream import Script, fake_upstream
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import in_thread, running_proxy

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JSON = ("Content-Type", "application/json")
ANSWER: Script = [
    {"status": 200, "headers": {"Content-Type": "application/json", "x-request-id": "req-7"}},
    {"bytes": '{"id":"c","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'},
]
CHAT = "/e/v1/chat/completions"


def asking(body: dict[str, Any], *headers: tuple[str, str], path: str = CHAT) -> bytes:
    return request_bytes("POST", path, JSON, *headers, body=json.dumps(body).encode())


async def test_who_asked_and_what_for(tmp_path: Path) -> None:
    """The row has the client's program and address, the endpoint's id of the request, and the rarer parameters."""
    async with fake_upstream(ANSWER) as upstream, in_thread(running_proxy(tmp_path, {"e": upstream.url})) as proxy:
        body = {"model": "m", "n": 2, "top_k": 40, "frequency_penalty": 0.5, "presence_penalty": -1,
                "reasoning_effort": "high"}  # fmt: skip
        await exchange(proxy.url, asking(body, ("User-Agent", "agent/1.2")))
        await exchange(proxy.url, asking({"model": "m", "reasoning": {"effort": "low"}}))
        await exchange(proxy.url, asking({"model": "m"}))
        rows = await proxy.rows(3)
    said = {"user_agent": "agent/1.2", "client_address": "127.0.0.1", "request_id": "req-7", "reasoning_level": "high"}
    assert {name: rows[0].get(name) for name in said} == said
    rarer = {
        "gen_ai.request.top_k": "40",
        "gen_ai.request.frequency_penalty": "0.5",
        "gen_ai.request.presence_penalty": "-1.0",
        "gen_ai.request.choice.count": "2",
    }
    assert {name: rows[0]["attributes"].get(name) for name in rarer} == rarer
    assert rows[1]["reasoning_level"] == "low"
    assert "reasoning_level" not in rows[2]
    assert "gen_ai.request.top_k" not in rows[2]["attributes"]


async def test_the_clients_session_and_trace(tmp_path: Path) -> None:
    """The row has the session that the baggage names, and the flag and state of the client's trace context."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-"
    async with fake_upstream(ANSWER) as upstream, in_thread(running_proxy(tmp_path, {"e": upstream.url})) as proxy:
        state, baggage = ("tracestate", "b@c=2, a=1"), ("baggage", "session.id=ses%201;p=1, other=x")
        await exchange(proxy.url, asking({"model": "m"}, ("traceparent", trace + "01"), state, baggage))
        await exchange(proxy.url, asking({"model": "m"}, ("traceparent", trace + "00"), ("tracestate", "malformed")))
        await exchange(proxy.url, asking({"model": "m"}, ("tracestate", "a=1")))
        rows = await proxy.rows(3)
    assert [row.get("session_id") for row in rows] == ["ses 1", None, None]
    assert [row.get("sampled") for row in rows] == [True, False, None]
    assert [row.get("tracestate") for row in rows] == ["b@c=2,a=1", None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a connection's round trip")
async def test_a_rows_round_trip_is_the_kernels(tmp_path: Path) -> None:
    """The row has the connection's round trip and its shortest one, also where the endpoint closes it; over the
    loopback they are short."""
    closing = [{**ANSWER[0], "headers": {"Connection": "close", **ANSWER[0]["headers"]}}, *ANSWER[1:]]
    for name, steps in (("kept", ANSWER), ("closed", closing)):
        folder = tmp_path / name
        folder.mkdir()
        async with fake_upstream(steps) as upstream, in_thread(running_proxy(folder, {"e": upstream.url})) as proxy:
            await exchange(proxy.url, asking({"model": "m"}))
            (row,) = await proxy.rows(1)
        assert 0 < row["min_rtt_us"] <= row["rtt_us"] < 1_000_000


async def test_without_a_connection_there_is_no_round_trip(tmp_path: Path) -> None:
    """A request that never reached its endpoint has none."""
    async with in_thread(running_proxy(tmp_path, {"e": "http://127.0.0.1:1/v1"})) as proxy:
        await exchange(proxy.url, asking({"model": "m"}))
        (row,) = await proxy.rows(1)
    assert row["outcome"] == "upstream_unreachable"
    assert not {"rtt_us", "min_rtt_us"} & set(row)


@pytest.mark.parametrize(
    "body",
    [
        {"user": "ada@example.org"},
        {"safety_identifier": "ada@example.org"},
        {"metadata": {"user_id": "ada@example.org"}},
    ],
)
async def test_a_users_name_is_kept_as_its_hmac(tmp_path: Path, body: dict[str, Any]) -> None:
    """The name itself is nowhere. The same user has the same HMAC, also after a restart; the key is the proxy's own."""
    seen = []
    async with fake_upstream(ANSWER) as upstream:
        for count in (1, 2):
            async with in_thread(running_proxy(tmp_path, {"e": upstream.url})) as proxy:
                await exchange(proxy.url, asking({"model": "m", **body}))
                seen = [row["user"] for row in await proxy.rows(count)]
    assert re.fullmatch(r"[0-9a-f]{32}", seen[0])
    assert seen == [seen[0]] * 2
    key = tmp_path / "spans" / ".dyno.user_key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert not [path for path in (tmp_path / "spans").rglob("*") if path.is_file() and b"ada@" in path.read_bytes()]


async def test_a_users_name_in_the_clear(tmp_path: Path) -> None:
    """Where the configuration asks for it, the name itself is kept."""
    async with (
        fake_upstream(ANSWER) as upstream,
        in_thread(running_proxy(tmp_path, {"e": upstream.url}, '[spans]\nuser = "clear"\n')) as proxy,
    ):
        await exchange(proxy.url, asking({"model": "m", "user": "ada@example.org"}))
        (row,) = await proxy.rows(1)
    assert row["user"] == "ada@example.org"


async def test_a_key_that_cannot_be_used(tmp_path: Path) -> None:
    """Then no name is kept, and the log says so; requests pass."""
    spans = tmp_path / "spans"
    spans.mkdir(0o700)
    (spans / ".dyno.user_key").write_bytes(b"short")
    async with fake_upstream(ANSWER) as upstream, in_thread(running_proxy(tmp_path, {"e": upstream.url})) as proxy:
        assert (await exchange(proxy.url, asking({"model": "m", "user": "ada"}))).status == 200
        (row,) = await proxy.rows(1)
        assert "names aren't kept" in proxy.log.read_text()
    assert "user" not in row


LONG = {"model": "long", "messages": [{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 12_000_000}}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("coding", "pack"), [("", bytes), ("gzip", gzip.compress), ("zstd", zstd.compress), ("x-gzip", gzip.compress)]
)
@pytest.mark.parametrize("body", [{"model": "short", "seed": 7}, LONG], ids=["short", "long"])
async def test_a_long_or_compressed_request(tmp_path: Path, coding: str, pack: Any, body: dict[str, Any]) -> None:
    """The model is known in the row and in the metrics, and the endpoint gets the body as the client sent it."""
    packed = pack(json.dumps(body).encode())
    headers = [JSON, ("Content-Encoding", coding)] if coding else [JSON]
    config = "ask_usage = true\nretries = 1\n"
    async with fake_upstream(ANSWER) as upstream:
        more = f'[endpoints.e]\nurl = "{upstream.url}"\n{config}'
        async with in_thread(running_proxy(tmp_path, {}, more)) as proxy:
            answer = await exchange(proxy.url, request_bytes("POST", CHAT, *headers, body=packed))
            assert answer.status == 200
            (row,) = await proxy.rows(1)
            metrics = proxy.metrics()
    assert (row["model"], row["outcome"], row["request_bytes"]) == (body["model"], "ok", len(packed))
    assert "dyno.request.unread" not in row["attributes"]
    assert f'model="{body["model"]}"' in metrics
    assert upstream.last.body == packed


@pytest.mark.parametrize(
    ("coding", "body", "why"), [("zstd", b"not zstd at all", "encoding"), ("rot13", b"{}", "encoding")]
)
async def test_a_coding_that_cannot_be_undone(tmp_path: Path, coding: str, body: bytes, why: str) -> None:
    """The request passes, and the row says why its parameters are unknown."""
    async with fake_upstream(ANSWER) as upstream, in_thread(running_proxy(tmp_path, {"e": upstream.url})) as proxy:
        await exchange(proxy.url, request_bytes("POST", CHAT, JSON, ("Content-Encoding", coding), body=body))
        (row,) = await proxy.rows(1)
    assert (row["attributes"]["dyno.request.unread"], row["outcome"]) == (why, "ok")


def refusing(refusal: Any) -> Any:
    """An endpoint that takes no `stream_options`."""

    def script(received: Received) -> Script:
        if b"stream_options" in received.body:
            return [
                {"status": 422, "headers": {"Content-Type": "application/json"}},
                {"bytes": json.dumps(refusal)},
            ]
        return [{"tokens": 3}, {"finish": "stop"}, {"done": True}]

    return script


@pytest.mark.parametrize(
    ("refusal", "refused"),
    [
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}, 1),
        ({"error": {"message": "Unknown parameter: include_usage"}}, 1),
        ({"error": {"message": "unprocessable"}}, 1),
    ],
)
async def test_an_endpoint_that_refuses_to_be_asked_for_usage(tmp_path: Path, refusal: Any, refused: int) -> None:
    """The log says it once, with the key to remove, and streams are passed on unasked from then on."""
    async with fake_upstream(refusing(refusal)) as upstream:
        config = f'[endpoints.e]\nurl = "{upstream.url}"\nask_usage = true\n'
        async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
            statuses = []
            for count in range(1, 5):
                answer = await exchange(proxy.url, asking({"model": "m", "stream": True, "messages": []}))
                statuses.append(answer.status)
                await proxy.rows(count)
            log = proxy.log.read_text()
    assert statuses == [422] * refused + [200] * (4 - refused)
    assert len([line for line in log.splitlines() if "stream_options" in line and "'e'" in line]) == 1
    assert "ask_usage" in log


async def test_a_clients_own_mistake_stops_nothing(tmp_path: Path) -> None:
    """An endpoint that has taken the question is asked again after a refusal that doesn't name it."""

    def script(received: Received) -> Script:
        if b'"bad"' in received.body:
            return [{"status": 400, "headers": {"Content-Type": "application/json"}}, {"bytes": '{"error":"bad"}'}]
        return [{"tokens": 3}, {"finish": "stop"}, {"done": True}]

    async with fake_upstream(script) as upstream:
        config = f'[endpoints.e]\nurl = "{upstream.url}"\nask_usage = true\n'
        async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
            for count, body in enumerate(({}, {"bad": 1}, {}), start=1):
                await exchange(proxy.url, asking({"model": "m", "stream": True, "messages": [], **body}))
                await proxy.rows(count)
            assert "stream_options" not in proxy.log.read_text()
    assert all(b"include_usage" in received.body for received in upstream.requests)
