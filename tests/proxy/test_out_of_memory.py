"""Answers that come when memory is exhausted, in a real `dyno proxy` under a memory limit."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import in_thread, running_proxy
from soak.process import process_figures, proxy_pid

ASK = b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@dataclass(frozen=True)
class Answer:
    content_type: bytes
    before: bytes
    after: bytes  # what comes once memory is out
    unread: str | None = None

    @property
    def head(self) -> bytes:
        length = len(self.before + self.after)
        return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (self.content_type, length)


ANSWERS = {
    # Neither is kept: they are skimmed as they come.
    "one large body": Answer(
        b"application/json",
        b'{"x":"' + b"a" * 15_000_000,
        b'","choices":[{"index":0,"message":{},"finish_reason":"stop"}]}',
    ),
    "one large SSE event": Answer(b"text/event-stream", b"data: " + b"a" * 8_000_000, b"b" * 7_000_000 + b"\n\n" + END),
    # Their times, a few bytes each while they come in, are put together at the end, however often that is tried.
    "many chunks": Answer(b"text/event-stream", TOKEN * 400_000, END, "proxy_MemoryError"),
}


@contextmanager
def little_memory(pid: int) -> Iterator[None]:
    """Limit a process to two megabytes more than it has now."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (process_figures(pid).virtual_bytes + 2_000_000, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_passes_without_memory_to_read_it(tmp_path: Path, name: str) -> None:
    """The client gets every byte and no other, and its connection can be used again.

    The row says why figures are missing, where they are.
    """
    answer = ANSWERS[name]
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            writer.write(answer.head + answer.before)
            await go_on.wait()
            writer.write(answer.after)

    async with raw_upstream(serve) as url, in_thread(running_proxy(tmp_path, {"e": url + "/v1"})) as proxy:
        parts = urlsplit(proxy.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
        async with asyncio.timeout(60):
            writer.write(ASK)
            assert await reader.readexactly(len(answer.head)) == answer.head
            assert await reader.readexactly(len(answer.before)) == answer.before
            with little_memory(proxy_pid(proxy.spans)):
                go_on.set()
                assert await reader.readexactly(len(answer.after)) == answer.after
                (row,) = await proxy.rows(1)
            writer.write(ASK)  # what stood behind the first answer would come now
            assert await reader.readexactly(len(answer.head)) == answer.head
            assert await reader.readexactly(len(answer.before + answer.after)) == answer.before + answer.after
        writer.close()
        rows = await proxy.rows(2)
        assert proxy.started() == proxy.total("dyno_requests_total") == 2
        assert ("a response could not be read" in proxy.log.read_text()) == (answer.unread is not None)
    assert (row["outcome"], row["status"], row["response_bytes"]) == ("ok", 200, len(answer.before + answer.after))
    assert row["attributes"].get("dyno.unread") == answer.unread
    assert "dyno.unread" not in rows[1].get("attributes", {})
