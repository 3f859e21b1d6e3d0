"""Three requests that are easily measured wrong, as the SQL rows of a running proxy (asked for by issue 4)."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from rigs.dyno_command import dyno
from rigs.fake_upstream import Script, fake_upstream
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import in_thread, running_proxy

GAP_S: Final = 1.0
UNSAMPLED: Final = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
BODY: Final = b'{"model": "m", "stream": true, "messages": []}'

USAGE: Final = {"event": {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19}}}
END: Final[Script] = [{"finish": "stop"}, USAGE, {"done": True}]


def scripts(gap_s: float) -> dict[str, Script]:
    return {
        "ten-in-one-read": [{"wait_s": 0.1}, {"together": [{"tokens": 10}, *END]}],
        "flag-00": [{"tokens": 10, "every_s": 0.01}, *END],
        "late-finish": [{"tokens": 10, "every_s": 0.01}, {"wait_s": gap_s}, *END],
    }


STATEMENTS: Final = {
    "ten-in-one-read": """
        SELECT outcome, output_tokens, chunk_count, list_unique(chunk_offsets_us) AS reads, round(ttft_s, 3) AS ttft_s,
        tpot_s, round(latency_s, 3) AS latency_s
        FROM spans WHERE prompt_id = 'ten-in-one-read'""",
    "flag-00": """
        SELECT trace_id, parent_span_id, outcome, output_tokens, chunk_count, ttft_s IS NOT NULL AS ttft_known
        FROM spans WHERE prompt_id = 'flag-00'""",
    "late-finish": """
        SELECT outcome, finish_reason, output_tokens, chunk_count, round(ttft_s, 3) AS ttft_s,
        round(1000 * tpot_s, 1) AS tpot_ms, round(latency_s, 3) AS latency_s
        FROM spans WHERE prompt_id = 'late-finish'""",
}


async def measured(folder: Path, gap_s: float) -> None:
    """Send each request once through `dyno proxy`, whose spans go to `folder`/spans."""
    current: list[Script] = []
    async with (
        fake_upstream(lambda _: current[-1]) as upstream,
        in_thread(running_proxy(folder, {"e": upstream.url})) as proxy,
    ):
        for name, script in scripts(gap_s).items():
            current.append(script)
            headers = [("Content-Type", "application/json"), ("baggage", f"dyno.prompt.id={name}")]
            if name == "flag-00":
                headers.append(UNSAMPLED)
            request = request_bytes("POST", "/e/v1/chat/completions", *headers, body=BODY)
            assert (await exchange(proxy.url, request, 20 + gap_s)).status == 200
        await proxy.rows(len(current))


def asked(folder: Path, statement: str, form: str = "json") -> str:
    done = dyno("sql", statement, "--spans", folder / "spans", "--format", form)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    asyncio.run(measured(folder, GAP_S))
    return folder


def row_of(folder: Path, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = json.loads(asked(folder, STATEMENTS[name]))
    assert len(rows) == 1
    return rows[0]


def test_ten_events_in_one_read(folder: Path) -> None:
    """Equal offsets say that events came together. The read's time and its number of events are known."""
    row = row_of(folder, "ten-in-one-read")
    assert (row["outcome"], row["output_tokens"], row["chunk_count"], row["reads"]) == ("ok", 10, 10, 1)
    assert 0.1 <= row["ttft_s"] <= row["latency_s"] < 2
    assert not row["tpot_s"]  # no time between them is made up


def test_a_trace_that_is_not_sampled(folder: Path) -> None:
    """The client's tracing doesn't sample the request, but the span files hold it."""
    row = row_of(folder, "flag-00")
    _, trace_id, parent_span_id, _ = UNSAMPLED[1].split("-")
    assert (row["trace_id"], row["parent_span_id"]) == (trace_id, parent_span_id)
    assert (row["outcome"], row["output_tokens"], row["chunk_count"], row["ttft_known"]) == ("ok", 10, 10, True)


def test_a_finish_reason_after_a_gap(folder: Path) -> None:
    """The last event ends the request and isn't a token: its gap counts in the latency, and in no time per token."""
    row = row_of(folder, "late-finish")
    assert (row["outcome"], row["finish_reason"], row["output_tokens"], row["chunk_count"]) == ("ok", "stop", 10, 10)
    assert row["latency_s"] >= GAP_S + 0.09
    assert row["ttft_s"] < GAP_S
    assert 5 < row["tpot_ms"] < 1000 * GAP_S / 10
