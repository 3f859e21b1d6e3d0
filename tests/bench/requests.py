"""CPU per request: chat completions that aren't streamed, through each contestant in turn."""

import urllib.request
from typing import Final

from .clients import ask_at, ask_in_turn, due_times
from .contestants import CONTESTANTS, Field, Running, started
from .cost import cpu_of, main_thread_cpu_ns, own_cpu_ns
from .results import (
    CPU_LOOP,
    CPU_OWN,
    CPU_REQUEST,
    CPU_REQUEST_AT_RATE,
    Results,
    Setting,
    missing_rows,
    number,
    table,
    times,
)
from .upstream import OtlpSink, Upstream, listen

NAMES: Final = ("nginx", "bare", "dyno", "dyno-otlp", "mitmproxy", "litellm")
CONNECTIONS: Final = 8
RATE: Final = 1000.0  # a second
_ROUNDS: Final = 5


async def measure(setting: Setting, results: Results) -> str:
    count, rate_s = setting.of(5000, 1500), setting.of(2.0, 1.0)
    upstream, port = await listen(Upstream)
    sink, otlp_port = await listen(OtlpSink)
    async with upstream, sink, started(setting.names(NAMES), setting.room("requests"), port, otlp_port) as field:
        for running in field.running.values():
            await _ask_in_turn(running, count / 5)
        for number_of_round in range(setting.rounds(_ROUNDS)):
            for name, running in field.running.items():
                if running.contestant.load < 1 and number_of_round >= setting.rounds_of_slow():
                    continue
                first_ns, own_ns = main_thread_cpu_ns(running.pid), own_cpu_ns(running.pid)
                asked = _share(running, count)
                spent_ns = await cpu_of(running.pid, _ask_in_turn(running, count))
                results.add(CPU_REQUEST, name, spent_ns / asked / 1e3)
                results.add(CPU_OWN, name, (own_cpu_ns(running.pid) - own_ns) / asked / 1e3)
                results.add(CPU_LOOP, name, (main_thread_cpu_ns(running.pid) - first_ns) / asked / 1e3)
            due_s = due_times(RATE, rate_s, number_of_round)
            for name, running in field.running.items():
                if running.contestant.load == 1:
                    asking = ask_at(running.port, running.contestant.request(), due_s)
                    spent_ns = await cpu_of(running.pid, asking)
                    results.add(CPU_REQUEST_AT_RATE, name, spent_ns / len(due_s) / 1e3)
        return _section(field, results, count)


async def _ask_in_turn(running: Running, count: float) -> None:
    await ask_in_turn(running.port, running.contestant.request(), _share(running, count), CONNECTIONS)


def _share(running: Running, count: float) -> int:
    return max(CONNECTIONS, round(count * running.contestant.load))


def _section(field: Field, results: Results, count: float) -> str:
    header = ["µs of CPU per request", "8 connections", "to bare", "to nginx", f"{RATE:,.0f}/s", "to bare", "to nginx"]
    rows = []
    for name, running in field.running.items():
        cells = [running.contestant.title]
        for figure in (CPU_REQUEST, CPU_REQUEST_AT_RATE):
            cells += [results.cell(figure, name), *(times(results.ratio(figure, name, to)) for to in ("bare", "nginx"))]
        rows.append(cells)
    rows += missing_rows(field.missing, {name: each.title for name, each in CONTESTANTS.items()}, len(header))
    note = (
        f"8 connections: each asks again as soon as it is answered, {count:,.0f} requests a round (mitmproxy "
        f"{count * CONTESTANTS['mitmproxy'].load:,.0f}, LiteLLM {count * CONTESTANTS['litellm'].load:,.0f}); "
        f"{RATE:,.0f}/s: at random times, the same for all. Median of the rounds, in brackets the least and the "
        "greatest; ratios are taken within a round."
    )
    lines = [table(header, rows), "", note]
    whole, loop = results.median(CPU_REQUEST, "dyno"), results.median(CPU_LOOP, "dyno")
    if whole is not None and loop is not None:
        lines.append(
            f"\nOf dyno's {number(whole)} µs its event loop takes {number(loop)}, its other threads "
            f"(histograms, spans, their writing; loop lag) {number(whole - loop)}."
        )
    own, alone = results.median(CPU_OWN, "dyno-otlp"), results.median(CPU_OWN, "dyno")
    if own is not None and alone is not None:
        sent, dropped = otlp_counts(field.running["dyno-otlp"])
        lines.append(
            f"\nWith OTLP export the proxy's own process takes {number(own)} µs per request, without it "
            f"{number(alone)} ({times(results.ratio(CPU_OWN, 'dyno-otlp', 'dyno'))}); the rest is the exporter's, a "
            f"process of the lowest priority. It had sent {sent:,} spans so far, and dropped {dropped:,}."
        )
    return "\n".join(lines)


def otlp_counts(running: Running) -> tuple[int, int]:
    """Spans that were exported, and that won't be, by dyno's own counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    sent, dropped = (
        sum(round(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))
        for name in ("dyno_otlp_spans_sent_total", "dyno_otlp_spans_dropped_total")
    )
    return sent, dropped
