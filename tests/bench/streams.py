"""Streams through each contestant in turn: CPU per chunk, a chunk's transit, the time added to the first token."""

from collections.abc import Sequence
from typing import Final

from .clients import Stream, due_times, stream_at
from .contestants import CONTESTANTS, Field, Running, started
from .cost import cpu_of
from .messages import Script, chat_request
from .results import (
    CPU_CHUNK,
    CPU_CHUNK_BURST,
    FIRST,
    TRANSIT_P50,
    TRANSIT_P99,
    TRANSIT_P999,
    Results,
    Setting,
    missing_rows,
    number,
    percentile,
    table,
    times,
)
from .upstream import OtlpSink, Upstream, listen

NAMES: Final = ("nginx", "bare", "dyno", "dyno-otlp", "mitmproxy", "litellm")
DIRECT: Final = "direct"
RATE: Final = 50.0  # streams a second; each lasts one
PACED: Final = Script(chunks=100, every_ms=10, first_ms=20)
BURSTS: Final = Script(chunks=500, every_ms=20, per_write=10, first_ms=20)
_ROUNDS: Final = 5


async def measure(setting: Setting, results: Results) -> str:
    paced_s, bursts_s = setting.of(3.0, 1.0), setting.of(1.0, 0.5)
    upstream, port = await listen(Upstream)
    sink, otlp_port = await listen(OtlpSink)
    async with upstream, sink, started(setting.names(NAMES), setting.room("streams"), port, otlp_port) as field:
        for running in field.running.values():
            await stream(running, PACED, 0.5, -1)
        for number_of_round in range(setting.rounds(_ROUNDS)):
            due_s = due_times(RATE, paced_s, number_of_round)
            observe(await stream_at(port, chat_request("/v1", PACED), due_s), DIRECT, results)
            in_round = {
                name: running
                for name, running in field.running.items()
                if running.contestant.load == 1 or number_of_round < setting.rounds_of_slow()
            }
            for name, running in in_round.items():
                streams, spent_ns = await stream(running, PACED, paced_s, number_of_round)
                results.add(CPU_CHUNK, name, spent_ns / len(streams) / PACED.chunks / 1e3)
                observe(streams, name, results)
            for name, running in in_round.items():
                streams, spent_ns = await stream(running, BURSTS, bursts_s, number_of_round)
                results.add(CPU_CHUNK_BURST, name, spent_ns / len(streams) / BURSTS.chunks / 1e3)
        return _section(field, results)


async def stream(running: Running, script: Script, duration_s: float, seed: int) -> tuple[list[Stream], int]:
    """The streams, and the nanoseconds of CPU that they took."""
    streams: list[Stream] = []

    async def run() -> None:
        due_s = due_times(RATE * running.contestant.load, duration_s, seed) or [0.0]
        streams.extend(await stream_at(running.port, running.contestant.request(script), due_s))

    spent_ns = await cpu_of(running.pid, run())
    return streams, spent_ns


def observe(streams: Sequence[Stream], name: str, results: Results) -> None:
    for each in streams:
        results.add(FIRST, name, outside_us(each))
    transit_us = transits_us(streams)
    for figure, percent in ((TRANSIT_P50, 50), (TRANSIT_P99, 99), (TRANSIT_P999, 99.9)):
        results.add(figure, name, percentile(transit_us, percent))


def outside_us(stream: Stream) -> float:
    """The client's time to first token, less the time that the upstream itself took."""
    whole_ns = stream.arrived_ns[0] - stream.sent_ns
    return (whole_ns - (stream.written_ns[0] - stream.read_ns)) / 1e3


def transits_us(streams: Sequence[Stream]) -> list[float]:
    """From the upstream's write to the client's read, of each SSE event; in order of size."""
    return sorted(
        (arrived - written) / 1e3
        for each in streams
        for written, arrived in zip(each.written_ns, each.arrived_ns, strict=True)
    )


def _section(field: Field, results: Results) -> str:
    titles = {name: each.title for name, each in CONTESTANTS.items()}
    cpu_header = ["µs of CPU per chunk", "paced", "to bare", "to nginx", "in bursts", "to bare", "to nginx"]
    cpu_rows = []
    for name in field.running:
        cells = [titles[name]]
        for figure in (CPU_CHUNK, CPU_CHUNK_BURST):
            cells += [results.cell(figure, name), *(times(results.ratio(figure, name, to)) for to in ("bare", "nginx"))]
        cpu_rows.append(cells)
    header = ["µs", "streams/s", "first token added, p50", "p99", "transit p50", "p99", "p99.9", "p99 to bare"]
    rows = []
    for name in (DIRECT, *field.running):
        added = [number(results.percentile_added(FIRST, name, DIRECT, percent), 0) for percent in (50, 99)]
        rate = RATE * (1 if name == DIRECT else CONTESTANTS[name].load)
        transit = [results.cell(figure, name, 0) for figure in (TRANSIT_P50, TRANSIT_P99, TRANSIT_P999)]
        ratio = times(results.ratio(TRANSIT_P99, name, "bare"))
        rows.append([titles.get(name, name), f"{rate:g}", *added, *transit, ratio])
    cpu_rows += missing_rows(field.missing, titles, len(cpu_header))
    rows += missing_rows(field.missing, titles, len(header))
    note = (
        f"Paced: {PACED.chunks} chunks a stream, {PACED.every_ms} ms apart, so that {RATE:g} streams are open and "
        f"{RATE * PACED.chunks:,.0f} chunks a second pass. In bursts: {BURSTS.chunks} chunks a stream, "
        f"{BURSTS.per_write} in one write every {BURSTS.every_ms} ms. Streams begin at random times, the same for "
        f"all; mitmproxy and LiteLLM get fewer, as the column says. The first token's percentiles are of all rounds' "
        f"{len(results.values(FIRST, DIRECT))} streams together, the transit's are each round's."
    )
    return f"{table(cpu_header, cpu_rows)}\n\n{table(header, rows)}\n\n{note}"
