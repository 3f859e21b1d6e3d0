"""Store span files in the format that this version writes, so that every later version can be tested with them.

    PYTHONPATH=tests .venv/bin/python -m rigs.freeze_format      with each release; tests/analysis/stored/VERSION is new

The real programs write a journal and a Parquet file. Beside them are the rows of the view `spans` as this version reads
them.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import aiohttp

from dyno_analysis.spans import folder as span_folder
from rigs.fake_upstream import fake_upstream
from rigs.proxy_process import proxy_process

STORED: Final = Path(__file__).parents[1] / "analysis" / "stored"
VERSION: Final = metadata.version("inference-dyno")
_CHAT: Final[dict[str, Any]] = {
    "model": "gpt-oss-120b",
    "messages": [{"role": "user", "content": "Why is the sky blue? ☁"}],
    "temperature": 0.5,
    "seed": 7,
}
_STREAM: Final = {**_CHAT, "stream": True, "stream_options": {"include_usage": True}}
_RUN: Final = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    "baggage": "dyno.run.id=20261124_215900_0a1b,dyno.workload=single,dyno.prompt.id=q1,dyno.repeat=1,dyno.warmup=false"
    ",dyno.due_at_unix_us=1795557540000000,dyno.send_lag_s=0.001",
}


def main() -> int:
    target = STORED / VERSION
    if target.exists():
        print(f"freeze_format: '{target}' is there; a version is frozen once", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(_traffic(folder))
        subprocess.run([sys.executable, "-m", "dyno", "compact", "--spans", folder / "spans"], check=True)
        asyncio.run(_traffic(folder))
        target.mkdir(parents=True)
        for path in span_folder.span_files(folder / "spans"):
            shutil.copyfile(path, target / re.sub(r".*_(\d+_\d{8}T)", r"node1_\1", path.name))
    rows = read_rows(target)
    (target / "expected.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{target}: {len(rows)} rows")
    return 0


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of `spans`, with each value as DuckDB's text for it. NULL is left out."""
    with span_folder.connect(folder) as connection:
        found = connection.execute("SELECT columns(*)::VARCHAR FROM spans ORDER BY span_id")
        names = [column[0] for column in found.description or []]
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in found.fetchall()
        ]


async def _traffic(folder: Path) -> None:
    """Send requests that fill each kind of column: streams, whole answers, reasoning, errors, an abort, a run."""
    async with (
        fake_upstream(profile="metis", time_scale=0.02) as metis,
        fake_upstream(profile="llamacpp", time_scale=0.2) as llama,
        fake_upstream([{"status": 429, "headers": {"Retry-After": "2"}}, {"error": "slow down"}]) as limited,
        fake_upstream([{"token": "a"}, {"cut": "reset"}]) as cut,
        fake_upstream([{"stall": True}]) as silent,
        proxy_process(
            folder,
            {"metis": metis.url, "llama": llama.url, "limited": limited.url, "cut": cut.url, "silent": silent.url},
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):

        async def ask(endpoint: str, body: dict[str, Any], **headers: str) -> None:
            url = f"{proxy.base_url(endpoint)}/chat/completions"
            try:
                async with session.post(url, json=body, headers=headers, timeout=aiohttp.ClientTimeout(5)) as answer:
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                return  # what this endpoint is for

        for endpoint in ("metis", "llama", "limited", "cut"):
            for body in (_CHAT, _STREAM):
                await ask(endpoint, body)
        await ask("silent", _CHAT)
        await ask("metis", _STREAM, **_RUN)
        async with session.get(f"{proxy.base_url('metis')}/models") as answer:
            await answer.read()


if __name__ == "__main__":
    sys.exit(main())
