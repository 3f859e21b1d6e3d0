"""A Collector with the queue of deploy/collector/ is killed and started again, and no span of the span files is
missing."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rigs.collector_process import Collector, collector, needs_collector
from rigs.fake_upstream import FakeUpstream, fake_upstream
from rigs.imports import imported, rows
from rigs.network import free_port
from rigs.raw_http import exchange, post_json
from rigs.running_proxy import in_thread, running_proxy
from rigs.until import until

pytestmark = needs_collector

CONFIG: Final = Path(__file__).parents[2] / "deploy" / "collector" / "collector.yaml"
# Tried again each second, where a user's tries every half a minute in the end: a test shouldn't wait that long.
OFTEN: Final = {"exporters": {"otlp_grpc/queued": {"retry_on_failure": {"max_interval": "1s"}}}}
ASK: Final = post_json(
    "/e/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
)


@dataclass
class Machines:
    """Addresses and folders of two Collectors with the same configuration: one beside the proxy, one that writes the
    files."""

    folder: Path
    listen: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    queued: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")

    @property
    def lines(self) -> Path:
        return self.folder / "spans.jsonl"

    @contextmanager
    def near(self) -> Iterator[Collector]:
        """The Collector to which proxies send. Its queue is where it was before."""
        with self._running("near", OTLP_HTTP_LISTEN=self.listen, QUEUED_LISTEN="127.0.0.1:0", NEXT=self.queued) as each:
            yield each

    @contextmanager
    def far(self) -> Iterator[Collector]:
        """The Collector that writes the files."""
        with self._running("far", OTLP_HTTP_LISTEN="127.0.0.1:0", QUEUED_LISTEN=self.queued) as each:
            yield each

    @contextmanager
    def _running(self, name: str, **places: str) -> Iterator[Collector]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        places |= {"OTLP_GRPC_LISTEN": "127.0.0.1:0", "HEALTH_LISTEN": "127.0.0.1:0"}
        places |= {"QUEUE_DIRECTORY": str(folder / "queue"), "SPANS_FILE": str(self.lines)}
        with collector(folder, CONFIG, OFTEN, environment=places) as each:
            yield each


async def test_none_is_lost(tmp_path: Path) -> None:
    """The Collector is killed under traffic while the writing side is down. It is started and killed again with a full
    queue. When both run at last, each span id of the span files is in the written file.
    """
    machines = Machines(tmp_path)
    async with fake_upstream() as upstream:
        sent = await traffic_over_a_kill(machines, upstream, tmp_path)
    assert len(sent) == 120
    assert not machines.lines.exists()  # all of them are in the queue, and nowhere else

    # The one that writes is there first: nobody has to wait until it is tried again.
    async with in_thread(machines.far()), in_thread(machines.near()):
        await until(lambda: sent <= written(machines.lines), "all spans in the file", every_s=0.1)
    # A batch whose answer the kill took away comes twice: `dyno import` takes a span once.
    await asyncio.to_thread(imported, tmp_path / "imported", machines.lines)
    came = await asyncio.to_thread(rows, tmp_path / "imported", "span_id")
    assert sorted(came) == sorted((span_id,) for span_id in sent)


async def traffic_over_a_kill(machines: Machines, upstream: FakeUpstream, folder: Path) -> set[str]:
    """Send 120 requests, and kill the Collector beside the proxy after each 40.

    Returns the span ids of the span files.
    """
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{machines.listen}",
        "OTEL_BSP_SCHEDULE_DELAY": "50",  # many small batches: some are on their way when it is killed
        "OTEL_EXPORTER_OTLP_TIMEOUT": "60",  # so long the exporter tries again: a busy machine's start takes its time
    }
    async with in_thread(running_proxy(folder, {"e": upstream.url}, environment=environment)) as proxy:
        async with in_thread(machines.near()) as near:
            await asyncio.gather(*(exchange(proxy.url, ASK) for _ in range(40)))
            os.kill(near.pid, signal.SIGKILL)
            await asyncio.gather(*(exchange(proxy.url, ASK) for _ in range(40)))
        async with in_thread(machines.near()) as near:
            await asyncio.gather(*(exchange(proxy.url, ASK) for _ in range(40)))
            found = await proxy.rows(120)
            await in_the_queue(machines, {row["span_id"] for row in found})
            os.kill(near.pid, signal.SIGKILL)
        assert proxy.total("dyno_spans_dropped_total") == 0
    return {row["span_id"] for row in found}


async def in_the_queue(machines: Machines, span_ids: set[str]) -> None:
    """The files of the queue hold each id in OTLP's binary form."""
    ids = {bytes.fromhex(span_id) for span_id in span_ids}

    def held() -> bool:
        files = b"".join(path.read_bytes() for path in (machines.folder / "near" / "queue").iterdir())
        return all(span_id in files for span_id in ids)

    await until(held, "all spans in the queue's files", every_s=0.1)


def written(lines: Path) -> set[str]:
    """Everything in the file's text that might be a span id."""
    return set(lines.read_text(encoding="utf-8").split('"')) if lines.is_file() else set()
