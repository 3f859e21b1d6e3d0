"""The export by OTLP over faults: what was stored has arrived, and what came twice has the same id.

    python -m soak.otlp                    100,000 spans
    python -m soak.otlp --spans 5000       a try

While the spans are stored, the collector is away; then it is killed ten times, and so is the proxy, under load, with
small journals, a compaction after each turn, and a second exporter on the folder. Exit code 1 where a stored span is
missing at the collector, where one came that isn't stored, or where spans were counted as dropped.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from dyno_proxy.metrics.otlp_figures import STATE, read_figures
from dyno_proxy.telemetry.journal import JournalExporter
from rigs.dyno_command import dyno
from rigs.fake_upstream import FakeUpstream, fake_upstream
from rigs.imports import rows
from rigs.otlp_export import exporters_of
from rigs.otlp_receiver import OtlpReceiver, Reply, otlp_receiver
from rigs.proxy_process import ProxyProcess, proxy_process
from rigs.raw_http import exchange, post_json
from rigs.records import record
from rigs.until import until

SPANS: Final = 100_000
TURNS: Final = 10
_ASKED: Final = 40  # requests a turn through the proxy; the rest is stored by a writer of the test's own
_JOURNAL_BYTES: Final = 400_000
_LIMIT_S: Final = 1800.0
_ASK: Final = post_json("/e/v1/chat/completions", {"model": "m", "stream": True, "messages": []})

_random: Final = random.Random(7)  # noqa: S311  # it makes faults


def store(folder: Path, count: int) -> None:
    """Store so many spans as a proxy does, in small journals."""
    journal = JournalExporter(
        folder, written=lambda _count: None, dropped=lambda *_: sys.exit(3), journal_bytes=_JOURNAL_BYTES
    )
    now_us = time.time_ns() // 1000
    while count:
        batch = min(count, 200)
        seqs = [journal.next_seq() for _ in range(batch)]
        lines = [
            journal.line(
                record(
                    span_id=_random.getrandbits(64) or 1,
                    trace_id=_random.getrandbits(128) or 1,
                    started_at_unix_us=now_us,
                ),
                seq,
            )
            for seq in seqs
        ]
        journal.write(b"".join(line for line in lines if line is not None), seqs[0], batch)
        count -= batch
    journal.shutdown()


async def turn(folder: Path, receiver: OtlpReceiver, upstream: FakeUpstream, number: int, spans: int) -> None:
    """One life of the proxy. The collector comes and goes meanwhile, and the proxy is killed at the end."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    async with proxy_process(folder, {"e": upstream.url}, **environment) as proxy:
        storing = asyncio.create_task(asyncio.to_thread(store, folder / "spans", spans))
        for _ in range(_ASKED):
            await exchange(proxy.url, _ASK)
        receiver.start()
        receiver.behave = lambda _spans: Reply(_random.choice((0, 200, 200, 200, 503)))
        await storing
        await asyncio.sleep(_random.uniform(0.5, 2.0))
        receiver.stop()
        for pid in exporters_of(folder / "spans") if number % 2 else []:
            os.kill(pid, signal.SIGKILL)
        await stored_by(proxy, number)
        proxy.signal(signal.SIGKILL)
        await proxy.exit_code()
    done = await asyncio.to_thread(dyno, "compact", "--spans", folder / "spans", "--keep", "30d")
    assert done.returncode == 0, done


async def stored_by(proxy: ProxyProcess, number: int) -> None:
    """Wait until the proxy's own rows are on disk: what a kill loses isn't stored."""
    await until(
        lambda: sum(row.get("endpoint") == "e" for row in proxy.rows()) >= 1, f"rows of turn {number}", every_s=0.1
    )
    await asyncio.sleep(0.5)


async def run(folder: Path, spans: int) -> bool:
    """Returns whether everything holds."""
    with otlp_receiver() as receiver:
        receiver.stop()
        async with fake_upstream() as upstream:
            for number in range(TURNS):
                await turn(folder, receiver, upstream, number, spans // TURNS)
                print(f"turn {number + 1}: {len(receiver.taken)} spans have come", flush=True)
            receiver.behave = lambda _spans: Reply()
            receiver.start()
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
            other = folder / "other"
            other.mkdir()
            async with (
                proxy_process(folder, {"e": upstream.url}, **environment),
                proxy_process(other, {"e": upstream.url}, "--spans", str(folder / "spans"), **environment),
            ):
                stored = {span_id for (span_id,) in await asyncio.to_thread(rows, folder / "spans", "span_id")}
                await until(lambda: {*receiver.ids()} >= stored, "every span", limit_s=_LIMIT_S, every_s=1.0)
                before = len(receiver.taken)
                await asyncio.sleep(3.0)
                silent = len(receiver.taken) == before
    came = Counter(receiver.ids())
    figures = read_figures(folder / "spans" / STATE)
    twice = sum(count - 1 for count in came.values())
    print(f"stored {len(stored)}, arrived {len(came)}, of these again {twice}; counted {figures}")
    return {*came} == stored and silent and not figures.dropped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=SPANS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dyno-soak-otlp-") as folder:
        holds = asyncio.run(run(Path(folder), arguments.spans))
    print("it holds" if holds else "it doesn't hold")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
