"""`hidden_reasoning = true`: an endpoint that reasons without showing or counting it must not look fast."""

import asyncio
import json
import re
from pathlib import Path

from rigs.dyno_command import dyno
from rigs.fake_upstream import Script, fake_upstream
from rigs.raw_http import exchange, post_json
from rigs.running_proxy import in_thread, running_proxy

# Twenty of thirty output tokens are seen: not so few that the figures alone would say that something is hidden.
STREAM: Script = [
    {"wait_s": 0.1},
    {"tokens": 20, "every_s": 0.005},
    {"finish": "stop"},
    {"event": {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39}}},
    {"done": True},
]
ASK = {"model": "m", "stream": True, "messages": []}


async def test_time_per_token_is_unknown(tmp_path: Path) -> None:
    """Neither the view `spans` nor /metrics has a TPOT, and the row says why. Without the key TPOT would look fast."""
    async with fake_upstream(STREAM) as upstream:
        config = "".join(
            f'[endpoints.{name}]\nurl = "{upstream.url}"\n{key}\n'
            for name, key in (("hidden", "hidden_reasoning = true"), ("shown", ""))
        )
        async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
            for name in ("hidden", "shown"):
                assert (await exchange(proxy.url, post_json(f"/{name}/v1/chat/completions", ASK))).status == 200
            await proxy.rows(2)
            metrics = await asyncio.to_thread(proxy.metrics)
    statement = """
        SELECT endpoint, outcome, output_tokens, ttft_s IS NOT NULL AS ttft, tpot_s IS NULL AS tpot_unknown,
        attributes['dyno.reasoning.hidden'] AS hidden FROM spans ORDER BY endpoint"""
    done = await asyncio.to_thread(dyno, "sql", statement, "--spans", tmp_path / "spans", "--format", "json")
    assert json.loads(done.stdout) == [
        {"endpoint": name, "outcome": "ok", "output_tokens": 30, "ttft": True, "tpot_unknown": why is not None,
         "hidden": why}
        for name, why in (("hidden", "true"), ("shown", None))
    ]  # fmt: skip
    counts = dict(re.findall(r'^dyno_tpot_seconds_count\{endpoint="(\w+)",.*\} (\S+)$', metrics, re.MULTILINE))
    assert counts.get("hidden", "0.0") == "0.0"
    assert counts["shown"] == "1.0"
    assert re.search(r'^dyno_ttft_seconds_count\{endpoint="hidden",.*\} 1\.0$', metrics, re.MULTILINE)
