"""The script language: what each step puts on the wire, when, and how a wrong script is refused."""

import asyncio
import base64
import gzip
import json
import time
import zlib
from typing import Any

import pytest

from dyno_driver.simulation.plan import Plan, Send, frame
from dyno_driver.simulation.profiles import PROFILES
from dyno_driver.simulation.script import ScriptError, compile_script, read_script
from dyno_driver.simulation.wire import Envelope
from rigs.fake_upstream import fake_upstream
from rigs.raw_http import Answer, dechunk, exchange, request_bytes
from rigs.until import LIMIT_S

WIRE = PROFILES["openai"].wire
ENVELOPE = Envelope("id-1", "model-1", 0.0, chat=True)


async def play(*steps: Any, method: str = "GET", **options: Any) -> Answer:
    async with fake_upstream(list(steps), **options) as upstream:
        return await exchange(upstream.url, request_bytes(method, "/v1/any"))


def choices(answer: Answer) -> list[dict[str, Any]]:
    """The first choice of every event that has one."""
    events = answer.content.decode().split("\n\n")
    payloads = [json.loads(event[6:]) for event in events if event.startswith("data: {")]
    return [payload["choices"][0] for payload in payloads if payload["choices"]]


async def test_a_scripted_stream_keeps_its_times() -> None:
    """TTFT 200 ms, 20 ms a token, 30 tokens: writes are never early, never drift, and their stamps are kept."""
    script = [{"wait_s": 0.2}, {"tokens": 30, "every_s": 0.02}, {"finish": "stop"}, {"usage": True}, {"done": True}]
    async with fake_upstream(script) as upstream:
        answer = await exchange(upstream.url, request_bytes("GET", "/v1/chat/completions"))
        sent = upstream.last
    offsets_s = [(stamp - sent.body_ns) / 1e9 for stamp, _ in sent.writes]
    due_s = [0.2 + 0.02 * i for i in range(30)]
    late_s = [at - due for at, due in zip(offsets_s[1:31], due_s, strict=True)]
    assert min(late_s) >= 0
    assert sorted(late_s)[15] < 0.02  # half of them before the next is due: lateness doesn't add up
    assert len(choices(answer)) == 31
    assert b'"completion_tokens":30' in answer.content
    assert sent.ended == "complete"


async def test_chunks_have_the_profiles_shape() -> None:
    """Reasoning, tokens, tool calls, finish reasons and usage come as the chosen vendor sends them."""
    answer = await play(
        {"reasoning": "hm"},
        {"token": "hello"},
        {"tool_call": {"id": "c1", "name": "f", "arguments": ""}},
        {"tool_call": {"arguments": '{"a":'}},
        {"finish": "tool_calls"},
        {"usage": True},
        {"done": True},
        profile="metis",
    )
    deltas = [choice["delta"] for choice in choices(answer)]
    assert deltas[0] == {"channel": "analysis", "reasoning": "hm"}
    assert deltas[1] == {"channel": "final", "content": "hello"}
    assert deltas[2]["tool_calls"] == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert deltas[3]["tool_calls"] == [{"index": 0, "function": {"arguments": '{"a":'}}]
    assert choices(answer)[4]["finish_reason"] == "tool_calls"
    assert b'"completion_tokens":4' in answer.content
    assert b'"reasoning_tokens":1' in answer.content
    assert answer.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("status", [401, 408, 429, 500, 503, 504])
async def test_errors_with_headers(status: int) -> None:
    """A status, its headers in their order, repetition and case, and the vendor's error body."""
    headers = [["Retry-After", "2"], ["x-One", "1"], ["X-one", "2"]]
    answer = await play({"status": status, "headers": headers}, {"error": "no"}, profile="sophia")
    assert answer.status == status
    assert answer.headers == [
        ("Server", "dyno-simulate"),
        ("Retry-After", "2"),
        ("x-One", "1"),
        ("X-one", "2"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(answer.body))),
    ]
    assert json.loads(answer.body)["error"]["code"] == status


async def test_bodies_as_they_are() -> None:
    """Text, binary, repeated and JSON bodies; a Content-Length that fits."""
    assert (await play({"status": 200}, {"bytes": "not json"})).body == b"not json"
    binary = base64.b64encode(bytes(range(256))).decode()
    assert (await play({"base64": binary, "times": 3})).body == bytes(range(256)) * 3
    assert (await play({"json": {"a": 1}})).body == b'{"a":1}'
    assert (await play({"status": 200})).headers == [("Server", "dyno-simulate"), ("Content-Length", "0")]


async def test_bodyless_responses() -> None:
    """204, 304 and the answer to HEAD carry no body; HEAD keeps the length."""
    for status in (204, 304):
        answer = await play({"status": status})
        assert (answer.status, answer.body, answer.headers) == (status, b"", [("Server", "dyno-simulate")])
    head = await play({"bytes": "12345"}, method="HEAD")
    assert (head.body, dict(head.headers)["Content-Length"]) == (b"", "5")


@pytest.mark.parametrize("framing", ["chunked", "length", "close", "raw"])
async def test_framings(framing: str) -> None:
    """The same body in chunks, with a length, until the end of the connection, or framed by the script itself."""
    body = "3\r\nabc\r\n0\r\n\r\n" if framing == "raw" else "abc"
    headers = {"Transfer-Encoding": "chunked"} if framing == "raw" else {}
    answer = await play({"status": 200, "framing": framing, "headers": headers}, {"bytes": body})
    names = {name for name, _ in answer.headers}
    expected = {"chunked": "Transfer-Encoding", "raw": "Transfer-Encoding", "length": "Content-Length"}
    assert answer.content == b"abc"
    assert names == {"Server", expected[framing]} if framing in expected else names == {"Server"}


async def test_several_events_in_one_write_and_one_event_in_several() -> None:
    """`together` is one write and one HTTP chunk; `bytes` may cut an event anywhere."""
    async with fake_upstream(
        [
            {"wait_s": 0.02},
            {"together": [{"token": "a"}, {"token": "b"}, {"tokens": 3}]},
            {"wait_s": 0.02},
            {"bytes": 'data: {"choi'},
            {"wait_s": 0.02},
            {"bytes": 'ces": []}\n\n'},
            {"wait_s": 0.02},
            {"done": True},
        ]
    ) as upstream:
        answer = await exchange(upstream.url, request_bytes("GET", "/v1/any"))
        writes = upstream.last.writes
    chunks = dechunk(answer.body)
    assert [chunk.count(b"data: ") for chunk in chunks] == [5, 1, 0, 1]
    assert len(writes) == 5  # the head, and four
    assert len(answer.reads) == 5


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_streams(encoding: str) -> None:
    """Each write can be decoded as it comes, and the whole is a complete stream."""
    answer = await play(
        {"status": 200, "compress": encoding},
        {"token": "a"},
        {"wait_s": 0.02},
        {"token": "b"},
        {"finish": "stop"},
        {"done": True},
    )
    decompress = zlib.decompressobj(16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS)
    plain = [decompress.decompress(chunk) for chunk in dechunk(answer.body)]
    assert plain[0].endswith(b"\n\n")
    assert b"".join(plain).endswith(b"data: [DONE]\n\n")
    assert decompress.eof
    assert ("Content-Encoding", encoding) in answer.headers


async def test_compressed_bodies() -> None:
    """A compressed body with a length has the compressed length."""
    answer = await play({"status": 200, "compress": "gzip"}, {"json": {"a": "b" * 1000}})
    assert json.loads(gzip.decompress(answer.body)) == {"a": "b" * 1000}
    assert dict(answer.headers)["Content-Length"] == str(len(answer.body))


async def test_broken_connections() -> None:
    """A reset is a reset, a close comes without the chunked body's end; what was sent before arrives."""
    reset = await play({"token": "a"}, {"wait_s": 0.05}, {"cut": "reset"})
    assert reset.reset
    assert b'"a"' in reset.body
    closed = await play({"token": "a"}, {"cut": "close"})
    assert not closed.reset
    assert b'"a"' in closed.body
    with pytest.raises(ValueError, match="no end"):
        dechunk(closed.body)


async def test_a_stall_ends_when_the_client_leaves() -> None:
    """Nothing more comes; the client's leaving ends the request, and is noted within 100 ms (the best of three)."""
    took_s: list[float] = []
    async with fake_upstream([{"token": "a"}, {"stall": True}]) as upstream:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await exchange(upstream.url, request_bytes("GET", "/v1/any"), limit_s=0.2)
            left_s = time.monotonic()
            await asyncio.wait_for(upstream.last.finished.wait(), LIMIT_S)
            took_s.append(time.monotonic() - left_s)
            assert upstream.last.client_left
            assert upstream.last.ended is None
    assert min(took_s) < 0.1, took_s


async def test_bytes_without_a_head() -> None:
    """`wire` can send any bytes instead of a response, and then the connection ends."""
    async with fake_upstream([{"wire": "HTTP/9.9 hello\r\n"}, {"wire": "\x00"}]) as upstream:
        answer = await exchange(upstream.url, request_bytes("GET", "/v1/any", close=False))
    assert b"".join(data for _, data in answer.reads) == b"HTTP/9.9 hello\r\n\x00"


async def test_connections_stay_open() -> None:
    """Two requests on one connection, of which the first was scripted by its own header."""
    first = request_bytes("GET", "/v1/a", ("X-Dyno-Script", '[{"status": 418}, {"bytes": "tea"}]'), close=False)
    async with fake_upstream(profile="openai") as upstream:
        answer = await exchange(upstream.url, first + request_bytes("GET", "/v1/models"))
        assert [received.target for received in upstream.requests] == ["/v1/a", "/v1/models"]
    assert answer.status == 418
    assert answer.body.startswith(b"teaHTTP/1.1 200 OK")


async def test_requests_are_kept_as_they_came() -> None:
    """Method, raw target, headers in order and case, and the body of a request with Expect: 100-continue."""
    async with fake_upstream(lambda received: [{"json": received.headers}]) as upstream:
        request = request_bytes(
            "PUT",
            "/v1/a%2Fb?x=%20&x=2",
            ("X-b", "1"),
            ("x-A", "2"),
            ("X-b", "3"),
            ("Expect", "100-continue"),
            body=b"abc",
        )
        answer = await exchange(upstream.url, request)
        received = upstream.last
    assert answer.head == b"HTTP/1.1 100 Continue"
    assert (received.method, received.target, received.body) == ("PUT", "/v1/a%2Fb?x=%20&x=2", b"abc")
    assert received.headers[1:4] == [("X-b", "1"), ("x-A", "2"), ("X-b", "3")]


def test_http_1_0_gets_no_chunks() -> None:
    """A client on HTTP/1.0 can't read chunks: the body ends with the connection."""
    plan = Plan(200, (), "chunked", (Send(0.0, b"abc"),), 0.0, 0.0)
    framed = frame(plan, head_request=False, http10=True)
    assert framed.writes == [Send(0.0, b"HTTP/1.1 200 OK\r\nServer: dyno-simulate\r\n\r\nabc")]
    assert not framed.keep_alive
    assert framed.end == "close"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("{", "not JSON"),
        ('{"token": "a"}', "list of steps"),
        ("[3]", "step 1: a step must be an object"),
        ('[{"tokn": "a"}]', r"step 1: needs exactly one action, but has \['tokn'\]"),
        ('[{"token": "a", "done": true}]', "exactly one action"),
        ('[{"token": "a"}, {"token": 3}]', "step 2: 'token' must be a string"),
        ('[{"token": "a", "evry_s": 3}]', "'token' has no option 'evry_s'"),
        ('[{"wait_s": -1}]', "'wait_s' must be a number of seconds"),
        ('[{"wait_s": true}]', "'wait_s'"),
        ('[{"tokens": 0}]', "'tokens' must be a whole number, 1 or more"),
        ('[{"status": 20}]', "'status' must be a number from 100 to 999"),
        ('[{"token": "a"}, {"status": 200}]', "step 2: 'status' must come before"),
        ('[{"status": 200, "headers": {"a": 1}}]', "'headers'"),
        ('[{"status": 200, "headers": {"a": "\\u20ac"}}]', "Latin-1"),
        ('[{"status": 200, "framing": "x"}]', "'framing' must be one of"),
        ('[{"status": 200, "compress": "br"}]', "'compress' must be one of gzip, deflate"),
        ('[{"cut": "x"}]', "'cut' must be one of reset, close"),
        ('[{"cut": "reset"}, {"token": "a"}]', "step 2: 'token' comes after the end"),
        ('[{"stall": 1}]', "'stall' must be true"),
        ('[{"base64": "*"}]', "'base64'"),
        ('[{"bytes": "a", "times": 0}]', "'times'"),
        ('[{"usage": 3}]', "'usage' must be true or an object"),
        ('[{"event": 3}]', "'event' must be"),
        ('[{"tool_call": {"nam": "f"}}]', "'tool_call'"),
        ('[{"together": []}]', "'together' must be a list"),
        ('[{"together": [{"wait_s": 1}]}]', "may contain only steps that send"),
        ('[{"wire": "a"}, {"token": "b"}]', "'wire' sends no head"),
    ],
)
def test_a_wrong_script_is_refused_in_one_line(script: str, message: str) -> None:
    """The message names the step and what is wrong with it."""
    with pytest.raises(ScriptError, match=message) as refused:
        compile_script(read_script(script), WIRE, ENVELOPE)
    assert "\n" not in str(refused.value)


async def test_a_wrong_script_in_a_header_is_a_400() -> None:
    """The response says what is wrong with the client's script."""
    async with fake_upstream() as upstream:
        answer = await exchange(upstream.url, request_bytes("GET", "/v1/a", ("x-dyno-script", "[{}]")))
    assert answer.status == 400
    assert b"step 1: needs exactly one action" in answer.body
