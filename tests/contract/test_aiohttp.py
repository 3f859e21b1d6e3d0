"""What the proxy's server leans on in aiohttp without a promise: every row of server/leanings.py.

If a test here fails, look closely at the new version of aiohttp.
"""

import ast
import asyncio
import contextlib
import inspect
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from dyno_proxy.server import leanings
from dyno_proxy.server.connection import CLOSE, KEEP, MeasuredProtocol, MeasuredServer, _InPlace
from dyno_proxy.server.leanings import BEHAVIOURS, PARTS, Part
from rigs.until import LIMIT_S

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


_CHUNKED = b"POST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Secret: 1\r\n\r\n"
_UPGRADE = b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n"
_NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def connected(
    handle: Handle, refused: list[tuple[int, str]] | None = None, *, plain: bool = False
) -> AsyncIterator[Streams]:
    """A client's connection to a MeasuredServer around `handle`; `plain`: to aiohttp's own."""

    def note(status: int, why: str, received_ns: int, started_at_unix_us: int) -> None:
        assert 0 < received_ns <= time.monotonic_ns()
        assert started_at_unix_us > 0
        if refused is not None:
            refused.append((status, why))

    server = web.Server(handle) if plain else MeasuredServer(handle, note)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        listening.close()
        await server.shutdown(1.0)


def protocol_of(request: web.BaseRequest) -> MeasuredProtocol:
    return cast(MeasuredProtocol, request.protocol)


async def test_raw_writes_and_keep_alive() -> None:
    """A Relayed response adds no byte to what was written raw. Its keep_alive decides if the connection stays open."""
    answers = [KEEP, KEEP, CLOSE]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol = protocol_of(request)
        protocol.take_stamp()
        assert protocol.transport is not None
        protocol.transport.write(b"HTTP/1.1 204 Fine\r\n\r\n")
        return answers.pop(0)

    async with connected(handle) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 204 Fine\r\n\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.read() == b"HTTP/1.1 204 Fine\r\n\r\n"


async def test_one_stamp_for_each_request() -> None:
    """Every parsed head has its stamp, also if it is pipelined or its body comes late. No stamp is left over."""
    left: list[int] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol = protocol_of(request)
        received_ns, _ = protocol.take_stamp()
        body = await request.read()
        left.append(len(protocol._stamps))
        return web.Response(
            text=f"{len(body)} {received_ns <= time.monotonic_ns()}", headers={"Connection": "keep-alive"}
        )

    async with connected(handle) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.02)
        writer.write(b"cd" + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        bodies = []
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(6))
        assert bodies == [b"4 True", b"0 True", b"0 True"]
        assert left[-1] == 0


async def test_malformed_requests_are_heard_of() -> None:
    """If aiohttp's parser refuses a request, `refused` is called once with a 4xx, and the connection is closed."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("a malformed request reached the handler")

    for head in (
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ):
        refused: list[tuple[int, str]] = []
        async with connected(handle, refused) as (reader, writer):
            writer.write(head)
            answer = await asyncio.wait_for(reader.read(), LIMIT_S)
        assert answer.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), answer
        assert len(refused) == 1
        assert 400 <= refused[0][0] < 500


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    """If a client leaves, its handler is cancelled at once."""
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol_of(request).take_stamp()
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return KEEP

    async with connected(handle) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(begun.wait(), LIMIT_S)
        writer.close()
        assert await asyncio.wait_for(cancelled.wait(), LIMIT_S)


async def test_compressed_request_bodies_pass_as_they_are() -> None:
    """aiohttp does not decompress what the client compressed."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol_of(request).take_stamp()
        return web.Response(body=await request.read())

    async with connected(handle) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"raw"


class Heard:
    """A handler that keeps what aiohttp says about each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, MeasuredProtocol):
            request.protocol.take_stamp()
        await request.read()
        self.requests.append((request.raw_path, dict(request.headers)))
        return web.Response()

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


async def said(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """How many answers come, and whether the connection then closes."""
    answers = 0
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.2):
                line = await reader.readline()
            if not line:
                return answers, True
            answers += line.startswith(b"HTTP/1.1 ")
    return answers, False


async def test_a_chunked_requests_last_trailer_leaks_into_the_next_request() -> None:
    """This is a fault of aiohttp, so the proxy makes a chunked request its connection's last. Once aiohttp is fixed,
    `_strict` can be removed."""
    heard = Heard()
    async with connected(heard, plain=True) as (reader, writer):
        writer.write(_CHUNKED)
        assert await said(reader) == (1, False)
        writer.write(_NEXT)
        assert await said(reader) == (1, False)
    assert [headers.get("X-Secret") for _, headers in heard.requests] == [None, "1"]

    for writes in ((_CHUNKED, _NEXT), (_CHUNKED + _NEXT,)):
        heard = Heard()
        async with connected(heard) as (reader, writer):
            for each in writes:
                writer.write(each)
                await asyncio.sleep(0.02)
            assert await said(reader) == (1, True)
        assert heard.paths == ["/chunked"]


async def test_what_stands_behind_a_request_for_an_upgrade_is_passed_over() -> None:
    """aiohttp skips bytes of the same read. It takes later bytes for a request, even if they are another one's body."""
    hiding = b"POST /hiding HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(_NEXT)
    heard = Heard()
    async with connected(heard, plain=True) as (reader, writer):
        writer.write(_UPGRADE % b"h2c" + hiding)
        await asyncio.sleep(0.05)
        writer.write(_NEXT)
        assert await said(reader) == (2, False)
    assert heard.paths == ["/upgrade", "/next"]

    for upgrade in (b"h2c", b"websocket"):
        heard, refused = Heard(), list[tuple[int, str]]()
        async with connected(heard, refused) as (reader, writer):
            writer.write(_UPGRADE % upgrade + hiding)
            await asyncio.sleep(0.05)
            writer.write(_NEXT)
            assert await said(reader) == (1, True)
        assert (heard.paths, refused) == (["/upgrade"], [])


async def test_an_upgrade_that_nobody_grants_leaves_the_connection_as_it_was() -> None:
    """If nothing came behind it, the client's next requests are answered, each once."""
    for upgrade in (b"h2c", b"websocket"):
        heard = Heard()
        async with connected(heard) as (reader, writer):
            for request in (_UPGRADE % upgrade, _NEXT, _UPGRADE % upgrade, _NEXT + _NEXT):
                writer.write(request)
                assert await said(reader) == (2 if request == _NEXT + _NEXT else 1, False)
        assert heard.paths == ["/upgrade", "/next", "/upgrade", "/next", "/next"]


async def test_a_body_that_turns_out_malformed_is_told_to_who_reads_it(caplog: pytest.LogCaptureFixture) -> None:
    """The reader is told whenever it reads. aiohttp waits for the rest of the body, and doesn't log that as our
    fault."""
    broken: list[BaseException] = []
    late = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol_of(request).take_stamp()
        await late.wait()
        try:
            await request.read()
        except web.RequestPayloadError as error:
            broken.append(error)
        return web.Response(status=400)

    for wait in (False, True):
        late.clear()
        async with connected(handle) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await asyncio.sleep(0.02)
            if not wait:
                late.set()
                await asyncio.sleep(0.02)
            writer.write(b"zz\r\n")
            await asyncio.sleep(0.02)
            late.set()
            assert await said(reader) == (1, True)
    assert len(broken) == 2
    assert caplog.records == []


async def test_pipelined_requests_stay_in_order_beyond_aiohttps_queue() -> None:
    """aiohttp parses a few requests at a time and then continues by itself. Each request has its stamp."""
    heard = Heard()
    async with connected(heard) as (reader, writer):
        writer.write(_NEXT * 500)
        assert await said(reader) == (500, False)
    assert heard.paths == ["/next"] * 500


async def test_a_request_runs_in_its_connections_task() -> None:
    """Before Python 3.12 it has no task of its own; from there on aiohttp's begins at once, and _InPlace isn't used."""
    tasks: list[asyncio.Task[None] | None] = []
    in_place: list[bool] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol = protocol_of(request)
        protocol.take_stamp()
        tasks.append(asyncio.current_task())
        in_place.append(isinstance(protocol._loop, _InPlace))  # it is what the table names
        return web.Response()

    async with connected(handle) as (reader, writer):
        for _ in range(2):
            writer.write(_NEXT)
            await reader.readuntil(b"\r\n\r\n")
    early = sys.version_info < (3, 12)
    assert in_place == [early, early]
    assert len(set(tasks)) == (1 if early else 2)


@pytest.mark.parametrize("part", PARTS, ids=[f"{part.owner.__name__}.{part.name}" for part in PARTS])
def test_each_part_is_there(part: Part) -> None:
    """aiohttp still has the name, on the class or as what its instances hold."""
    if isinstance(part.owner, type) and not hasattr(part.owner, part.name):
        assert f"self.{part.name} = " in inspect.getsource(part.owner)
    else:
        assert hasattr(part.owner, part.name)


def test_the_table_names_every_private_part_in_use() -> None:
    """Whatever the room takes from aiohttp with a leading underscore is in the table, and nothing else is."""
    used = {name for path in Path(leanings.__file__).parent.glob("*.py") for name in foreign_private_names(path)}
    assert used - {"_replace"} == {part.name for part in PARTS if part.name.startswith("_")}


def test_each_behaviour_has_its_test() -> None:
    """Each row names a test of this file, and each test of aiohttp here has its row."""
    tests = {name for name in globals() if name.startswith("test_") and inspect.iscoroutinefunction(globals()[name])}
    assert {behaviour.test for behaviour in BEHAVIOURS} == tests


def foreign_private_names(path: Path) -> set[str]:
    """Names with one leading underscore that the file uses and doesn't define itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used, own = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("aiohttp"):
                used |= {each.name for each in names}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
            case ast.AnnAssign(target=ast.Attribute(attr=name)) | ast.Assign(targets=[ast.Attribute(attr=name)]):
                own.add(name)
    inherited = {part.name for part in PARTS}
    return {name for name in used if name.startswith("_") and not name.startswith("__")} - (own - inherited)
