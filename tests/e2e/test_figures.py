"""The proxy measures a known source: an upstream that keeps scripted times exactly, and records when it wrote."""

import asyncio
import json
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from rigs.fake_upstream import fake_upstream
from rigs.raw_http import exchange, post_json
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

STREAMS = 9
TOKENS = 30
SCRIPT = [{"wait_s": 0.2}, {"tokens": TOKENS, "every_s": 0.02}, {"finish": "stop"}, {"usage": True}, {"done": True}]
ASKED = post_json("/up/v1/chat/completions", {"model": "m", "stream": True, "messages": []})


def select(proxy: RunningProxy, statement: str) -> list[dict[str, Any]]:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "dyno",
        "sql",
        statement,
        "--spans",
        proxy.spans,
        "--format",
        "json",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(ended.stdout)
    return rows


async def test_a_scripted_stream_is_measured_right(tmp_path: Path) -> None:
    """The view `spans` has TTFT 200 ms, 20 ms per token and 30 tokens: never less, and more only by the upstream's lag.

    The upstream's stamps say when it wrote. So a delay of a busy machine doesn't count as an error of the proxy.
    """
    async with (
        fake_upstream(SCRIPT, exact=True) as upstream,
        in_thread(running_proxy(tmp_path, {"up": upstream.url})) as proxy,
    ):
        for _ in range(STREAMS):
            await exchange(proxy.url, ASKED)
        await proxy.rows(STREAMS)
        rows = await asyncio.to_thread(select, proxy, "SELECT * FROM spans ORDER BY started_at")
        writes = [[stamp for stamp, _ in received.writes[1 : TOKENS + 1]] for received in upstream.requests]
        written_ttfts_s = [
            (stamps[0] - received.body_ns) / 1e9 for received, stamps in zip(upstream.requests, writes, strict=True)
        ]

    assert {(row["outcome"], row["output_tokens"], row["usage_source"]) for row in rows} == {("ok", TOKENS, "server")}
    assert {(row["chunk_count"], row["finish_reason"]) for row in rows} == {(TOKENS, "stop")}
    assert all(row["simulated"] and row["streamed"] for row in rows)
    # The script's times are kept at least. Beyond the upstream's own, the proxy sees the way there and back: well under
    # 1 ms each, but on a machine that is busy just then; so the best stream tells, and too early would be wrong in any.
    assert all(row["ttft_s"] >= written_s >= 0.2 for row, written_s in zip(rows, written_ttfts_s, strict=True))
    assert min(row["ttft_s"] - written_s for row, written_s in zip(rows, written_ttfts_s, strict=True)) <= 0.003
    # A token takes what it took the upstream, to 1 ms.
    written_tpots_s = [(stamps[-1] - stamps[0]) / 1e9 / (TOKENS - 1) for stamps in writes]
    tpot_errors_s = [abs(row["tpot_s"] - written_s) for row, written_s in zip(rows, written_tpots_s, strict=True)]
    assert statistics.median(tpot_errors_s) <= 0.001

    # Chunk by chunk, the gaps are those of the upstream's own writes.
    errors_us = [
        statistics.median(
            abs((arrived[1] - arrived[0]) - (sent[1] - sent[0]) / 1000)
            for arrived, sent in zip(pairwise(row["chunk_offsets_us"]), pairwise(stamps), strict=True)
        )
        for row, stamps in zip(rows, writes, strict=True)
    ]
    assert min(errors_us) < 1000, errors_us


async def test_an_unstreamed_answer_has_a_latency_and_no_ttft(tmp_path: Path) -> None:
    """Without a stream no first token can be seen: TTFT is NULL, and not the latency."""
    answer = {
        "id": "a",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }
    script = [{"wait_s": 0.1}, {"status": 200}, {"json": answer}]
    async with (
        fake_upstream(script, exact=True) as upstream,
        in_thread(running_proxy(tmp_path, {"up": upstream.url})) as proxy,
    ):
        await exchange(proxy.url, post_json("/up/v1/chat/completions", {"model": "m", "messages": []}))
        await proxy.rows(1)
        (row,) = await asyncio.to_thread(select, proxy, "SELECT * FROM spans")
    assert (row["outcome"], row["streamed"], row["input_tokens"], row["output_tokens"]) == ("ok", False, 3, 5)
    assert (row["ttft_s"], row["ttfa_s"], row["tpot_s"], row["chunk_count"] or 0) == (None, None, None, 0)
    assert 0.1 <= row["ttfb_s"] <= row["latency_s"] < 1.0
