import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from dyno_driver.client import Answer, Endpoint, Parameters, ProxyClient, parameter_fields, select
from dyno_driver.errors import ProxyGoneError, WrongUseError
from dyno_driver.load.schedule import Turn
from dyno_driver.prompts.request import text_request
from rigs.fake_proxy import DONE, FakeProxy, answering, chunk, fake_proxy, saying, streaming

PARAMETERS = Parameters(temperature=0.0, max_tokens=512, seed=None, stream=True, timeout_s=20.0)
WHOLE = Parameters(temperature=0.0, max_tokens=512, seed=None, stream=False, timeout_s=20.0)


async def ask(proxy: FakeProxy, parameters: Parameters = PARAMETERS, key: str | None = None) -> Answer:
    async with ProxyClient(proxy.url, key) as client:
        [endpoint] = (await client.about()).endpoints
        return await client.ask(Turn(endpoint.name, "p 1", 2, False), endpoint, "Who?", parameters, "RUN", "single")


async def test_a_streamed_answer() -> None:
    """Text, reasoning, finish reason and the client's own times come from the stream; the request says what it is."""
    reads = [
        chunk({"role": "assistant"}),
        chunk({"reasoning": "hm"}),
        chunk({"content": "42"}),
        chunk({}, "stop"),
        DONE,
    ]
    async with fake_proxy({"metis": streaming(reads)}) as proxy:
        answer = await ask(proxy)
    assert (answer.text, answer.reasoning, answer.finish_reason, answer.error) == ("42", "hm", "stop", None)
    assert answer.status == 200
    assert answer.ttft_s is not None
    assert answer.latency_s is not None
    assert 0 < answer.ttft_s <= answer.latency_s < 20
    assert answer.simulated is False
    [received] = proxy.received
    assert received.path == "/metis/v1/chat/completions"
    assert received.body == {
        "model": "metis-model",
        "messages": [{"role": "user", "content": "Who?"}],
        "temperature": 0.0,
        "max_tokens": 512,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert received.headers["traceparent"].split("-")[1] == answer.trace_id
    assert "dyno.prompt.id=p%201,dyno.repeat=2,dyno.warmup=false" in received.headers["baggage"]
    assert received.headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in received.headers


async def test_time_to_first_token_ends_at_output() -> None:
    """The first token is the first output, not the role's event; the latency runs to the last byte."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"role": "assistant"}))
        await asyncio.sleep(0.2)
        await response.write(chunk({"content": "a"}))
        await asyncio.sleep(0.2)
        await response.write(chunk({}, "stop") + DONE)
        return response

    async with fake_proxy({"metis": script}) as proxy:
        answer = await ask(proxy)
    assert answer.ttft_s is not None
    assert answer.latency_s is not None
    assert answer.ttft_s >= 0.2
    assert answer.latency_s >= answer.ttft_s + 0.19


async def test_an_answer_in_one_piece() -> None:
    """A request that isn't streamed has no time to first token, and sends no stream options."""
    async with fake_proxy({"metis": answering("42", server="dyno-simulate")}) as proxy:
        answer = await ask(proxy, WHOLE)
    assert (answer.text, answer.finish_reason, answer.error, answer.ttft_s) == ("42", "stop", None, None)
    assert answer.simulated is True
    assert proxy.received[0].body["stream"] is False
    assert "stream_options" not in proxy.received[0].body


async def test_a_server_that_ignores_stream() -> None:
    """If a stream was asked for and a whole body comes, the body is read; its time to first token is unknown."""
    document = {"choices": [{"index": 0, "message": {"content": "42"}, "finish_reason": "stop"}]}
    async with fake_proxy({"metis": saying(200, document)}) as proxy:
        answer = await ask(proxy)
    assert (answer.text, answer.error, answer.ttft_s) == ("42", None, None)


@pytest.mark.parametrize(
    ("status", "document", "error"),
    [
        (429, {"error": {"message": "slow down"}}, "HTTP 429: slow down"),
        (502, {"error": {"message": "endpoint down", "type": "dyno_proxy_error"}}, "HTTP 502: endpoint down"),
        (404, {"detail": "nothing here"}, "HTTP 404: nothing here"),
        (302, {}, "HTTP 302: an error without a text"),
    ],
)
async def test_http_errors(status: int, document: Any, error: str) -> None:
    """A status other than 200 is a failure with the endpoint's own words; a redirect isn't followed."""
    async with fake_proxy({"metis": saying(status, document)}) as proxy:
        answer = await ask(proxy)
    assert (answer.status, answer.error, answer.text, answer.ttft_s) == (status, error, None, None)
    assert len(proxy.received) == 1


async def test_an_answer_cut_off() -> None:
    """A connection that breaks off is a failure that keeps what had come."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Content-Length": "10000"})
        await response.prepare(request)
        await response.write(chunk({"content": "half"}))
        assert request.transport is not None
        request.transport.close()
        return response

    async with fake_proxy({"metis": script}) as proxy:
        answer = await ask(proxy)
    assert answer.text == "half"
    assert answer.error is not None
    assert answer.error.startswith("broke off")


async def test_an_answer_that_takes_too_long() -> None:
    """After --timeout a request is given up, and the next can be asked."""

    async def script(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async with fake_proxy({"metis": script}) as proxy:
        answer = await ask(proxy, Parameters(None, None, None, True, timeout_s=0.2))
    assert answer.error == "no complete answer within 0.2 s"
    assert answer.latency_s is not None
    assert 0.2 <= answer.latency_s < 20


async def test_an_answer_without_end() -> None:
    """An endpoint that never stops fails after a bounded number of bytes."""
    written = 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:  # until the client closes, which cancels this
            await response.write(chunk({"content": "x" * 1_000_000}))
            written += 1_000_000

    async with fake_proxy({"metis": script}) as proxy:
        answer = await ask(proxy)
    assert answer.error == "the answer is over 64 MiB; the rest was not read"
    assert written < 2 * 64 * 2**20


async def test_the_key_of_the_proxy() -> None:
    """A proxy that demands a key gets it as SDKs send one."""
    async with fake_proxy({"metis": answering("42")}) as proxy:
        await ask(proxy, key="sesame")
    assert proxy.received[0].headers["Authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (Parameters(None, None, None, False, 1), {"stream": False}),
        (Parameters(0.7, None, 5, False, 1), {"temperature": 0.7, "seed": 5, "stream": False}),
    ],
)
def test_only_what_is_given_is_sent(parameters: Parameters, expected: Mapping[str, Any]) -> None:
    """A parameter that isn't given isn't sent: the endpoint's own default holds."""
    body = json.loads(text_request("Who?").body("m", parameter_fields(parameters)))
    assert body == {"model": "m", "messages": [{"role": "user", "content": "Who?"}], **expected}


async def test_no_proxy() -> None:
    """If nothing listens, one line says how to start a proxy; if the proxy answered before, it says that it is gone."""
    async with fake_proxy({"metis": answering("42")}) as proxy:
        url = proxy.url
    async with ProxyClient(url) as client:
        with pytest.raises(WrongUseError, match=r"no proxy at .*: Connection refused; start one with 'dyno proxy"):
            await client.about()
        endpoint = Endpoint("metis", "http://x/v1", "m", None, None, None, None)
        with pytest.raises(ProxyGoneError, match="is gone: Connection refused"):
            await client.ask(Turn("metis", "p", 1, False), endpoint, "Who?", PARAMETERS, "RUN", "single")


@pytest.mark.parametrize("document", [{"detail": "x"}, [], {"endpoints": [{}]}])
async def test_another_server_is_no_proxy(document: Any) -> None:
    """Another program on the proxy's port is told apart, in one line."""

    async def describe(_request: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.router.add_get("/endpoints", describe)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ProxyClient(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        with pytest.raises(WrongUseError, match="isn't a Dyno proxy"):
            await client.about()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("models", "model", "says"),
    [
        (["only"], "only", None),
        (["a", "b"], None, "endpoint 'metis' has no model configured, and its /v1/models lists a, b; set 'model' in"),
        ([], None, "lists none"),
        (None, None, "names none"),
    ],
)
async def test_the_model_of_an_endpoint_without_one(
    models: list[str] | None, model: str | None, says: str | None
) -> None:
    """An endpoint without a configured model is asked which models it has; it must have exactly one."""
    document = {"error": {"message": "not here"}} if models is None else {"data": [{"id": name} for name in models]}
    script = saying(404 if models is None else 200, document)
    async with fake_proxy({"metis": script}, {"metis": {"model": None}}) as proxy, ProxyClient(proxy.url) as client:
        [endpoint], version, _ = await client.about()
        assert version == "9.9.9"
        if says is None:
            assert (await client.with_model(endpoint)).model == model
        else:
            with pytest.raises(WrongUseError, match=says):
                await client.with_model(endpoint)
    assert [request.path for request in proxy.received] == ["/metis/v1/models"]


def test_select_keeps_the_order_asked_for() -> None:
    """Endpoints come in the order of --endpoints; a name that isn't configured is named, with its nearest."""
    metis, sophia = (Endpoint(name, "http://x/v1", "m", None, None, None, None) for name in ("metis", "sophia"))
    assert select([metis, sophia], ("sophia", "metis")) == [sophia, metis]
    assert select([metis, sophia], None) == [metis, sophia]
    with pytest.raises(
        WrongUseError, match=r"no endpoint 'sofia'; did you mean 'sophia'\? configured endpoints: metis, sophia"
    ):
        select([metis, sophia], ("sofia",))
    with pytest.raises(WrongUseError, match="the proxy has no endpoints"):
        select([], None)
