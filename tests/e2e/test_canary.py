"""Secrets are planted wherever a request, a response or the configuration can hold one. No output contains them.

These outputs are searched: span files (as bytes and as rows), both log streams (also with a log level and a Python mode
that show everything, and after crashes), /metrics in both formats, the proxy's pages, its error answers, and OTLP.
"""

import asyncio
import base64
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from rigs.canaries import Canaries
from rigs.canary_surroundings import http_proxy, otlp_collector
from rigs.fake_upstream import FakeUpstream, Script, fake_upstream
from rigs.programs import running
from rigs.raw_http import Answer, exchange
from rigs.running_proxy import RunningProxy, in_thread
from soak.process import process_figures, proxy_pid

OWN_ERROR: Final = b"dyno_proxy_error"
READY: Final = r"dyno proxy: listening on (?P<url>http://\S+), spans in "
# As somebody in search of a fault would start it: every library's debug messages, asyncio's debug mode, faulthandler.
TALKATIVE: Final = "import logging, sys; logging.basicConfig(level=logging.DEBUG); import dyno; sys.exit(dyno.main())"
ENDPOINTS: Final = """
[proxy]
max_body_bytes = 100000
hosts = ["canary.test"]
[endpoints.plain]
url = "{upstream}"
[endpoints.env]
url = "{upstream}"
token.env = "CANARY_TOKEN"
[endpoints.file]
url = "{upstream}"
token.file = "{folder}/token"
[endpoints.command]
url = "{upstream}"
token.command = "cat {folder}/command_token"
[endpoints.failing_command]
url = "{upstream}"
token.command = "sh {folder}/failing.sh"
[endpoints.two_lines]
url = "{upstream}"
token.command = "cat {folder}/two_lines"
[endpoints.limited]
url = "{upstream}"
timeouts = {{ first_byte_s = 0.3, idle_s = 0.3 }}
[endpoints.down]
url = "http://127.0.0.1:9/v1"
[endpoints.via]
url = "http://upstream.invalid/v1"
proxy = "http://user:{password}@127.0.0.1:{http_proxy}"
[endpoints.tunnel]
url = "https://upstream.invalid/v1"
proxy = "http://user:{password}@127.0.0.1:{http_proxy}"
"""


class Scene:
    """The proxy with planted secrets in its configuration, and everything around it."""

    def __init__(self, canaries: Canaries, proxy: RunningProxy, key: str | None) -> None:
        self.canaries = canaries
        self.proxy = proxy
        self.key = key
        self.model = "model-" + canaries.plant("the model: recorded, and so the proof that the search finds")
        self.own_pages: list[bytes] = []  # what the proxy said in its own name

    def request(self, method: str, target: str, case: str, body: bytes | None = None, *more: tuple[str, str]) -> bytes:
        """A request with a secret in every place that has room for one. `case` names the upstream's answer."""
        plant = self.canaries.plant
        asked = {
            "model": self.model,
            "stream": "stream" in case,
            "messages": [{"role": "user", "content": plant("a prompt")}],
            "user": plant("the body's user"),
            "metadata": {plant("a key of the body"): plant("a value of the body")},
            "tools": [{"type": "mcp", "authorization": plant("a tool's authorization")}],
        }
        body = json.dumps(asked).encode() if body is None else body
        own_key = f"Bearer {self.key}" if self.key else f"Bearer {plant('Authorization')}"
        password = base64.b64encode(f"user:{plant('Proxy-Authorization')}".encode()).decode()
        names = ("X-Api-Key", "api-key", "X-Custom", "X-Amz-Security-Token", "User-Agent", "OpenAI-Organization")
        headers = [
            ("Host", "canary.test"),
            ("Authorization", own_key),
            ("Cookie", f"session={plant('Cookie')}"),
            ("Proxy-Authorization", f"Basic {password}"),
            ("Referer", f"https://user:{plant('Referer')}@x/?key={plant('a query in Referer')}"),
            ("baggage", f"session={plant('foreign baggage')},dyno.workload=canary"),
            *((name, plant(name)) for name in names),
            *more,
            ("x-case", case),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        lines = [f"{method} {target}?api_key={plant('the query')}&x={plant('the query')} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def send(self, target: str, case: str, body: bytes | None = None, *more: tuple[str, str]) -> Answer:
        return await self.raw(self.request("POST", target, case, body, *more))

    async def raw(self, request: bytes) -> Answer:
        answer = await exchange(self.proxy.url, request)
        whole = b"".join(data for _, data in answer.reads)
        if OWN_ERROR in whole or b"dyno-simulate" not in whole:
            self.own_pages.append(whole)
        return answer


def script_of(canaries: Canaries, case: str) -> Script:
    """The upstream's answer, with secrets of its own in headers and body."""
    plant = canaries.plant
    headers = {
        "Set-Cookie": f"session={plant('Set-Cookie')}; Path=/",
        "X-Internal-Token": plant("a response's header"),
        "WWW-Authenticate": f'Bearer realm="{plant("WWW-Authenticate")}"',
        "Location": f"https://x/?code={plant('Location')}",
    }
    message = plant("an answer's text")
    error = {"message": plant("an error's message"), "type": plant("an error's type"), "code": plant("an error's code")}
    answer = {
        "id": "an-id",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": message}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
    ok = {"status": 200, "headers": headers}
    in_stream = {"choices": [{"index": 0, "delta": {"content": plant("a chunk's text")}}]}
    scripts: dict[str, Script] = {
        "answer": [ok, {"json": answer}],
        "stream": [ok, {"event": in_stream}, {"reasoning": message}, {"finish": "stop"}, {"done": True}],
        "gzip_stream": [{**ok, "compress": "gzip"}, {"event": in_stream}, {"finish": "stop"}, {"done": True}],
        "error_in_stream": [ok, {"event": in_stream}, {"event": {"error": error}}, {"done": True}],
        "truncated_stream": [ok, {"event": in_stream}, {"wait_s": 0.05}, {"cut": "reset"}],
        "endless_stream": [ok, {"event": in_stream}, {"stall": True}],
        # One SSE event without an end.
        "large_stream": [ok, {"bytes": f"data: {message}", "times": 300_000}],
        "no_json": [{**ok, "headers": [*headers.items(), ("Content-Type", "application/json")]}, {"bytes": message}],
        "stall": [{"stall": True}],
        "hang_up": [{"wire": ""}, {"cut": "close"}],
        "not_http": [{"wire": f"HTTP/1.1 200 {message}\x01\r\nX: \x00{plant('a broken head')}\r\n\r\n"}],
        "bad_chunk": [{"wire": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + message + "\r\n"}],
        **{str(code): [{"status": code, "headers": headers}, {"json": {"error": error}}] for code in ERROR_CODES},
    }
    return scripts[case]


ERROR_CODES: Final = (302, 400, 401, 403, 404, 429, 500, 503)
CASES: Final = (
    *("answer", "stream", "gzip_stream", "error_in_stream", "truncated_stream", "no_json", "hang_up", "not_http"),
    *("bad_chunk", *map(str, ERROR_CODES)),
)
OUTCOMES: Final = {
    *("ok", "http_error", "rate_limited", "auth", "upstream_unreachable", "upstream_timeout", "truncated"),
    *("stream_error", "client_cancelled", "rejected"),
}


@pytest.mark.parametrize("talkative", [False, True], ids=["as it is", "talkative"])
@pytest.mark.parametrize("keys", [False, True], ids=["open", "with keys"])
async def test_no_secret_leaves_the_proxy(tmp_path: Path, keys: bool, talkative: bool) -> None:
    """After every outcome, faults of disk and memory, and a crash, no output contains a planted secret."""
    canaries = Canaries()
    (tmp_path / "token").write_text(canaries.plant("token.file"), encoding="utf-8")
    (tmp_path / "command_token").write_text(canaries.plant("token.command"), encoding="utf-8")
    (tmp_path / "two_lines").write_text(f"{canaries.plant('two lines')}\n{canaries.plant('two lines')}\n")
    complaint = f"echo {canaries.plant('a failing command')}; echo {canaries.plant('its complaint')} >&2; exit 1"
    (tmp_path / "failing.sh").write_text(complaint, encoding="utf-8")
    environment = {
        "CANARY_TOKEN": canaries.plant("token.env"),
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={canaries.plant('OTEL_EXPORTER_OTLP_HEADERS')}",
    }
    key = canaries.plant("keys_file") if keys else None
    if key is not None:
        (tmp_path / "keys").write_text(f"{key}\n{canaries.plant('another key')}\n", encoding="utf-8")
        environment["DYNO_PROXY_KEYS_FILE"] = str(tmp_path / "keys")
    exported: list[bytes] = []
    password = canaries.plant("the HTTP proxy's password")
    async with (
        fake_upstream(lambda received: script_of(canaries, dict(received.headers)["x-case"])) as upstream,
        http_proxy(canaries) as (http_proxy_port, http_proxy_heads),
        otlp_collector(exported) as collector,
    ):
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
        config = ENDPOINTS.format(upstream=upstream.url, folder=tmp_path, password=password, http_proxy=http_proxy_port)
        (tmp_path / "dyno.toml").write_text(config, encoding="utf-8")
        async with start(tmp_path, environment, talkative) as proxy:
            scene = Scene(canaries, proxy, key)
            await every_outcome(scene, upstream)
            rows = await proxy.rows(await asyncio.to_thread(proxy.started))
            shown = await own_pages(proxy, key)
            await faults(scene)
            if talkative:
                await crash(scene, upstream)
        view = await asyncio.to_thread(spans_as_csv, proxy.spans)

    # The secrets went where they belong, and everything happened that was to happen.
    arrived = {name for received in upstream.requests for name in canaries.found_in(repr(received.headers).encode())}
    assert {"token.env", "token.file", "token.command"} <= arrived
    assert {"a prompt"} <= {name for received in upstream.requests for name in canaries.found_in(received.body)}
    assert "the HTTP proxy's password" in canaries.found_in(b"".join(http_proxy_heads))
    assert {row["outcome"] for row in rows} == OUTCOMES
    log = proxy.log.read_bytes()
    assert b"can't be written" in log  # the disk was full
    assert not talkative or (b"DEBUG:" in log and b"Fatal Python error: Aborted" in log)

    places = {
        "log": log,
        "span files": b"".join(path.read_bytes() for path in proxy.spans.iterdir()),
        "the view": view,
        "OTLP": b"".join(exported),
        **shown,
        **{f"own page {number}": page for number, page in enumerate(scene.own_pages)},
    }
    found = {where: canaries.found_in(text) for where, text in places.items()}
    recorded = canaries.places[scene.model.removeprefix("model-")]
    assert {where for where, leaked in found.items() if recorded in leaked} >= {
        *("span files", "the view", "OTLP", "/metrics", "/metrics as OpenMetrics")
    }
    assert leaks(found, recorded) == {}


async def every_outcome(scene: Scene, upstream: FakeUpstream) -> None:
    chat = "/v1/chat/completions"
    for case in CASES:
        await scene.send(f"/plain{chat}", case)
    for path in ("completions", "responses", "messages", "embeddings", "files", "nobody/knows"):
        await scene.send(f"/plain/v1/{path}", "answer")
    for endpoint in ("env", "file", "command", "failing_command", "two_lines", "down", "via", "tunnel", "nowhere"):
        await scene.send(f"/{endpoint}{chat}", "answer")
    for case in ("401", "403"):
        await scene.send(f"/command{chat}", case)
    for case in ("stall", "endless_stream"):
        await scene.send(f"/limited{chat}", case)
        await leave(scene, upstream, f"/plain{chat}", case)
    for target in ("/", "/plain", "/plain/v1/../x", chat):
        await scene.send(target, "answer")

    plant = scene.canaries.plant
    for body in (
        plant("a body that is no JSON").encode(),
        b'{"user": "%b", "model": ' % plant("cut JSON").encode(),
        b"[" * 50_000 + b'"%b"' % plant("deep JSON").encode() + b"]" * 50_000,
        b'{"model": {"key": "%b"}, "stream": "%b"}' % (plant("odd JSON").encode(), plant("odd JSON").encode()),
        b'{"seed": 1e999, "user": "\\ud800%b"}' % plant("a lone surrogate").encode(),
        plant("a body too long").encode() * 10_000,
        gzip.compress(plant("a compressed body").encode(), mtime=0),
    ):
        await scene.send(f"/plain{chat}", "answer", body)
    for line in (
        "Bad Name: {}",
        "X-Control: {}\x01",
        "X-Folded: a\r\n {}",
        "Content-Length: {}",
        "Transfer-Encoding: {}",
        "Transfer-Encoding: chunked\r\nX: {}",
        "Under_score: {}",
        "X-Long: {}" + "x" * 100_000,
        "{}",
        "Expect: {}",
        "Upgrade: {}\r\nConnection: upgrade",
        "traceparent: {}",
        "Authorization: Bearer {}",
    ):
        request = scene.request("POST", f"/plain{chat}", "answer")
        await scene.raw(request.replace(b"\r\n", f"\r\n{line.format(plant('a malformed head'))}\r\n".encode(), 1))
    for start_line in ("POST /plain{} HTTP/9.9", "{} / HTTP/1.1", "POST http://u:{}@x/plain/v1/x HTTP/1.1", "{}"):
        line = start_line.format(plant("a malformed request line"))
        request = scene.request("POST", f"/plain{chat}", "answer")
        await scene.raw(line.encode() + request[request.index(b"\r\n") :])
    chunked = f"zz{plant('a malformed chunk')}\r\n".encode()
    request = scene.request("POST", "/plain/v1/files", "answer", chunked)
    length = f"Content-Length: {len(chunked)}".encode()
    await scene.raw(request.replace(length, b"Transfer-Encoding: chunked"))
    if scene.key is not None:
        for shown in (f"Bearer {plant('a wrong key')}", f"Basic {plant('a wrong key')}", plant("a wrong key"), ""):
            request = scene.request("POST", f"/plain{chat}", "answer")
            await scene.raw(request.replace(f"Bearer {scene.key}".encode(), shown.encode()))


async def leave(scene: Scene, upstream: FakeUpstream, target: str, case: str) -> None:
    """Send a request, and leave once it is upstream."""
    parts = urlsplit(scene.proxy.url)
    before = len(upstream.requests)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(scene.request("POST", target, case))
    async with asyncio.timeout(20):
        while len(upstream.requests) == before:  # noqa: ASYNC110 - other requests arrive there too
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await upstream.last.finished.wait()


async def own_pages(proxy: RunningProxy, key: str | None) -> dict[str, bytes]:
    """The answer that another client gets."""
    asked = {
        "/metrics": ("/metrics", ""),
        "/metrics as OpenMetrics": ("/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n"),
        "/endpoints": ("/endpoints", f"Authorization: Bearer {key}\r\n" if key else ""),
        "/endpoints without a key": ("/endpoints", ""),
        "/healthz": ("/healthz", ""),
        "/readyz": ("/readyz", ""),
        "a refusal": ("/nowhere/v1/models", ""),
        "an endpoint that is down": ("/down/v1/models", f"Authorization: Bearer {key}\r\n" if key else ""),
        "a token that can't be had": ("/two_lines/v1/models", f"Authorization: Bearer {key}\r\n" if key else ""),
        "a malformed request": ("/plain/v1/models", "Bad Name: x\r\n"),
    }
    shown: dict[str, bytes] = {}
    for name, (target, headers) in asked.items():
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n"
        answer = await exchange(proxy.url, request.encode())
        assert answer.head, name
        shown[name] = answer.head + answer.body
    assert b"# EOF" in shown["/metrics as OpenMetrics"]
    return shown


async def faults(scene: Scene) -> None:
    """A full disk, no file descriptors, no memory: each while requests are running."""
    pid = proxy_pid(scene.proxy.spans)
    for limit, soft in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, process_figures(pid).fds - 2),
        (resource.RLIMIT_AS, process_figures(pid).virtual_bytes + 1_000_000),
    ):
        before, hard = resource.prlimit(pid, limit)
        resource.prlimit(pid, limit, (soft, hard))
        asked = [scene.send("/plain/v1/chat/completions", case) for case in ("answer", "stream", "large_stream") * 3]
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0.5)  # spans are written meanwhile, or not
        resource.prlimit(pid, limit, (before, hard))


async def crash(scene: Scene, upstream: FakeUpstream) -> None:
    """Abort the proxy in the middle of a stream. faulthandler writes the stack of every thread."""
    parts = urlsplit(scene.proxy.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(scene.request("POST", "/plain/v1/chat/completions", "endless_stream"))
    await reader.readuntil(b"data: ")
    os.kill(proxy_pid(scene.proxy.spans), signal.SIGABRT)
    with suppress(ConnectionError):
        await reader.read()
    writer.close()
    await upstream.last.finished.wait()


@asynccontextmanager
async def start(folder: Path, environment: dict[str, str], talkative: bool) -> AsyncIterator[RunningProxy]:
    python: list[str | Path] = [sys.executable, *(("-X", "dev", "-c", TALKATIVE) if talkative else ("-m", "dyno"))]
    spans, log = folder / "spans", folder / "proxy.log"
    flags: list[str | Path] = ["--config", folder / "dyno.toml", "--listen", "127.0.0.1:0", "--spans", spans]
    variables = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", **environment}
    async with in_thread(running([*python, "proxy", *flags], READY, log, variables)) as (ready,):
        yield RunningProxy(ready["url"], spans, log)


def spans_as_csv(spans: Path) -> bytes:
    command: list[str | Path] = [sys.executable, "-m", "dyno", "sql", "SELECT * FROM spans", "--spans", spans]
    return subprocess.run([*command, "--format", "csv"], capture_output=True, check=True).stdout


def leaks(found: dict[str, set[str]], recorded: str) -> dict[str, set[str]]:
    """What was found where it mustn't be. Rows say which program asked: a User-Agent is no secret there."""
    told = {where: {recorded} for where in found}
    for where in ("span files", "the view", "OTLP"):
        told[where] = {recorded, "User-Agent"}
    return {where: leaked - told[where] for where, leaked in found.items() if leaked - told[where]}
