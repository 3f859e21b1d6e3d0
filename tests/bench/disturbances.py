"""A chunk's transit through dyno while something beside it goes wrong, or is written, or asks."""

import asyncio
from typing import Final

from .clients import ask_at, due_times, stream_at
from .contestants import Running, started
from .results import BESIDE_P50, BESIDE_P99, BESIDE_P999, Results, Setting, missing_rows, percentile, table, times
from .streams import PACED, RATE, transits_us
from .upstream import OtlpSink, StalledSink, Upstream, listen

REQUESTS: Final = 200.0  # a second, not streamed: spans to write
SCRAPES: Final = 10.0  # a second
NOTHING: Final = "nothing"
UNWRITTEN: Final = "no spans are made"
SCRAPED: Final = f"/metrics is asked for {SCRAPES:g} times a second"
SENT: Final = "all spans are sent by OTLP"
# What is beside: the contestant that has it
CASES: Final = {
    NOTHING: "dyno",
    UNWRITTEN: "no-telemetry",
    "the OTLP endpoint accepts and never answers": "dyno-otlp",
    "each write takes the disk two seconds": "slow-disk",
    SCRAPED: "dyno",
}
_ROUNDS: Final = 9
_SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/openmetrics-text\r\n\r\n"
_PERCENTILES: Final = ((BESIDE_P50, 50.0), (BESIDE_P99, 99.0), (BESIDE_P999, 99.9))


async def measure(setting: Setting, results: Results) -> str:
    duration_s = setting.of(2.5, 1.5)
    upstream, port = await listen(Upstream)
    sink, otlp_port = await listen(StalledSink)
    taking, taking_port = await listen(OtlpSink)
    names = list(dict.fromkeys(CASES.values()))
    async with (
        upstream,
        sink,
        taking,
        started(names, setting.room("disturbances"), port, otlp_port) as field,
        started(["dyno-otlp"], setting.room("sending"), port, taking_port) as sending,
    ):
        cases = {case: field.running[name] for case, name in CASES.items() if name in field.running}
        if "dyno-otlp" in sending.running:
            cases[SENT] = sending.running["dyno-otlp"]
        for running in cases.values():
            await _transits_us(running, 1.0, -1, scraped=False)
        for number_of_round in range(setting.rounds(_ROUNDS)):
            for case, running in cases.items():
                transit_us = await _transits_us(running, duration_s, number_of_round, scraped=case == SCRAPED)
                for figure, percent in _PERCENTILES:
                    results.add(figure, case, percentile(transit_us, percent))
    header = ["a chunk's transit in µs, beside it", "p50", "p99", "p99.9", "p99 to 'nothing'"]
    rows = [
        [
            case,
            *(results.cell(figure, case, 0) for figure, _ in _PERCENTILES),
            times(results.ratio(BESIDE_P99, case, NOTHING)),
        ]
        for case in cases
    ]
    rows += missing_rows(field.missing, {name: case for case, name in CASES.items()}, len(header))
    return (
        f"{table(header, rows)}\n\nIn every case {RATE:g} streams a second of {PACED.chunks} chunks and {REQUESTS:g} "
        f"requests a second that aren't streamed, so {RATE + REQUESTS:g} spans a second."
    )


async def _transits_us(running: Running, duration_s: float, seed: int, *, scraped: bool) -> list[float]:
    requests = ask_at(running.port, running.contestant.request(), due_times(REQUESTS, duration_s + 1, seed))
    scrapes = [n / SCRAPES for n in range(round((duration_s + 1) * SCRAPES))] if scraped else []
    streams, *_ = await asyncio.gather(
        stream_at(running.port, running.contestant.request(PACED), due_times(RATE, duration_s, seed)),
        requests,
        ask_at(running.port, _SCRAPE, scrapes),
    )
    return transits_us(streams)
