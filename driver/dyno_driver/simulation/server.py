"""The I/O of a simulated endpoint: aiohttp reads the requests, and plans are played on its transport.

A response is written to the transport directly, so that the plan decides every byte and every write. aiohttp gets a
response object that does nothing; only its public methods are overridden.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from .asked import Asked, RequestError, read_request
from .plan import End, Plan, frame
from .profiles import Profile
from .reply import make_reply, plan_json, plan_reply
from .script import Script, ScriptError, compile_script, read_script
from .wire import Envelope

SCRIPT_HEADER: Final = "x-dyno-script"
_LARGEST_BODY_BYTES: Final = 256 * 1024 * 1024
_LARGEST_HEADER_BYTES: Final = 256 * 1024  # a header may carry a script
_REMEMBERED_PROMPTS: Final = 100_000
# Constants, so that a script sends the same bytes every time.
_SCRIPTED_ID: Final = "chatcmpl-scripted"
_SCRIPTED_UNIX_S: Final = 1_700_000_000.0
# An event loop's timers are up to a millisecond late. With `exact` we wake up this much earlier.
_TIMER_SLACK_S: Final = 0.002


@dataclass(slots=True)
class Received:
    """One request as it was received, and when each part of its answer was written. Stamps: monotonic nanoseconds."""

    method: str
    target: str  # raw, with the query
    headers: list[tuple[str, str]]  # in the order and case in which they came
    received_ns: int
    body: bytes = b""
    body_ns: int = 0  # when the whole body had been read
    begun_ns: int = 0  # when the answer began, after any wait in the queue; a plan's schedule starts here
    writes: list[tuple[int, int]] = field(default_factory=list)  # (stamp just before the write, bytes)
    ended: End | None = None  # None: still running
    client_left: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)


Respond = Callable[[Received], Script]


class SimulatedEndpoint:
    """One simulated endpoint on a port of its own.

    `script`, or the script that it returns, replaces the simulated answers. `log` is called with each request as it
    begins. `exact` keeps due times to some 0.1 ms by spinning before each; it is for the few streams of a timing test.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        seed: int = 0,
        time_scale: float = 1.0,
        script: Script | Respond | None = None,
        log: Callable[[Received], None] | None = None,
        exact: bool = False,
    ) -> None:
        self._profile = profile
        self._seed = seed
        self._time_scale = time_scale
        self._script = script
        self._log = log
        self._early_s = _TIMER_SLACK_S if exact else 0.0
        self._occurrences: dict[str, int] = {}
        self._room = None if profile.batch is None else asyncio.Semaphore(profile.batch)
        self._answering = 0
        self._count = 0
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; returns the URL without a path. Raises OSError if the address can't be listened on."""
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            max_line_size=_LARGEST_HEADER_BYTES,
            max_field_size=_LARGEST_HEADER_BYTES,
            lingering_time=0,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        bound_host, bound_port = self._runner.addresses[0][:2]
        return f"http://[{bound_host}]:{bound_port}" if ":" in bound_host else f"http://{bound_host}:{bound_port}"

    async def stop(self) -> None:
        """Stop listening; responses under way are cut."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        received = Received(
            request.method,
            request.raw_path,
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
            time.monotonic_ns(),
        )
        if self._log is not None:
            self._log(received)
        try:
            if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async with contextlib.AsyncExitStack() as until_answered:
                plan = await self._answer(request, received, until_answered)
                return await self._play(plan, request, received)
        except asyncio.CancelledError:
            received.client_left = request.transport is None or request.transport.is_closing()
            raise
        finally:
            received.finished.set()

    async def _answer(
        self, request: web.BaseRequest, received: Received, until_answered: contextlib.AsyncExitStack
    ) -> Plan:
        self._count += 1
        wire, request_id = self._profile.wire, f"{self._profile.name}-{self._count}"
        path = request.path
        asked: Asked | None = None
        try:
            try:
                received.body = await _read_body(request)
            finally:
                received.body_ns = received.begun_ns = time.monotonic_ns()
            script = self._find_script(request, received)
            if script is not None:
                envelope = Envelope(_SCRIPTED_ID, self._profile.model, _SCRIPTED_UNIX_S, path != "/v1/completions")
                return compile_script(script, wire, envelope).scaled(self._time_scale)
            if path in ("/v1/chat/completions", "/v1/completions") and request.method == "POST":
                asked = read_request(received.body, chat=path == "/v1/chat/completions")
        except (ScriptError, RequestError, web.RequestPayloadError) as error:
            return plan_json(400, wire.error(400, str(error), request_id), headers=_date())
        if asked is not None:
            others = await until_answered.enter_async_context(self._being_answered(received))
            occurrence = self._next_occurrence(asked.prompt)
            reply = make_reply(
                asked,
                self._profile,
                seed=self._seed,
                occurrence=occurrence,
                created_unix_s=time.time(),
                time_scale=self._time_scale,
                others=others,
            )
            plan = plan_reply(reply, asked, self._profile)
            return plan._replace(headers=(*plan.headers, *_date()))
        if path == "/v1/models" and request.method in ("GET", "HEAD"):
            return plan_json(200, wire.models(self._profile.model), headers=_date())
        message = f"no such operation: {request.method} {path}"
        return plan_json(404, wire.error(404, message, request_id), headers=_date())

    @contextlib.asynccontextmanager
    async def _being_answered(self, received: Received) -> AsyncIterator[int]:
        """Wait in the queue for one of the batch's places, and hold it. Gives the number of others that hold one."""
        async with contextlib.nullcontext() if self._room is None else self._room:
            received.begun_ns = time.monotonic_ns()
            self._answering += 1
            try:
                yield self._answering - 1
            finally:
                self._answering -= 1

    def _find_script(self, request: web.BaseRequest, received: Received) -> Script | None:
        in_header = request.headers.get(SCRIPT_HEADER)
        if in_header is not None:
            return read_script(in_header)
        return self._script(received) if callable(self._script) else self._script

    def _next_occurrence(self, prompt: str) -> int:
        """How often this prompt was asked before. Beyond _REMEMBERED_PROMPTS the oldest prompts are forgotten."""
        occurrence = self._occurrences.get(prompt, 0)
        if occurrence == 0 and len(self._occurrences) >= _REMEMBERED_PROMPTS:
            del self._occurrences[next(iter(self._occurrences))]
        self._occurrences[prompt] = occurrence + 1
        return occurrence

    async def _play(self, plan: Plan, request: web.BaseRequest, received: Received) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise asyncio.CancelledError  # the client left while its body was read
        framed = frame(plan, head_request=request.method == "HEAD", http10=request.version < HttpVersion11)
        for at_s, data in framed.writes:
            await self._until(received, at_s)
            received.writes.append((time.monotonic_ns(), len(data)))
            transport.write(data)
            await request.writer.drain()
        await self._until(received, framed.end_at_s)
        if framed.end == "stall":
            await asyncio.get_running_loop().create_future()  # cancelled when the client leaves
        if framed.end == "reset":
            _reset(transport)
        received.ended = framed.end
        return _AlreadySent(keep=framed.keep_alive and bool(request.keep_alive))

    async def _until(self, received: Received, at_s: float) -> None:
        """Sleep until `at_s` seconds after the request was received.

        It never returns early, so it sleeps again where a coarse timer has fired too soon.
        """
        due_s = received.begun_ns / 1e9 + at_s
        left_s = due_s - time.monotonic()
        while left_s > 0:
            await asyncio.sleep(max(0.0, left_s - self._early_s))
            left_s = due_s - time.monotonic()


class _AlreadySent(web.StreamResponse):
    """The response object for aiohttp. The plan has written the bytes; aiohttp only learns whether to keep alive."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    @property
    def keep_alive(self) -> bool:
        return self._keep

    async def prepare(self, _request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, _data: Any = b"") -> None:
        return None


async def _read_body(request: web.BaseRequest) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in request.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST_BODY_BYTES:
            raise RequestError(f"the body is larger than {_LARGEST_BODY_BYTES} bytes")
    return b"".join(pieces)


def _reset(transport: asyncio.Transport) -> None:
    """End the connection by RST: SO_LINGER with 0 s makes the kernel send one at the close."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _date() -> tuple[tuple[str, str], ...]:
    return (("Date", formatdate(usegmt=True)),)


async def start_all(endpoints: Sequence[SimulatedEndpoint], host: str, port: int) -> list[str]:
    """Start all endpoints; returns their URLs. With `port` 0 each takes a free port, otherwise they take `port`
    and the ones after it.

    Raises OSError if an address can't be listened on; the endpoints that had started are stopped then.
    """
    urls: list[str] = []
    try:
        for index, endpoint in enumerate(endpoints):
            urls.append(await endpoint.start(host, port + index if port else 0))
    except OSError:
        await asyncio.gather(*(endpoint.stop() for endpoint in endpoints[: len(urls)]))
        raise
    return urls
