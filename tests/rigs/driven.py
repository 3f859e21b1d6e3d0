"""`dyno drive` as another process, and what it leaves behind."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from .fake_proxy import FakeProxy
from .running_proxy import RunningProxy


@dataclass
class Driven:
    code: int | None
    out: str
    err: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        return record

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.folder / f"{name}.parquet").to_pylist()
        return rows


async def start(proxy: FakeProxy | RunningProxy, spans: Path, *options: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DYNO_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dyno"),
        *("drive", "--proxy", proxy.url, "--spans", str(spans), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


async def finish(process: asyncio.subprocess.Process, spans: Path) -> Driven:
    out, err = await process.communicate()
    folders = list((spans / "runs").iterdir()) if (spans / "runs").exists() else []
    return Driven(process.returncode, out.decode(), err.decode(), folders[0] if folders else Path("none"))


async def drive(proxy: FakeProxy | RunningProxy, spans: Path, *options: str) -> Driven:
    return await finish(await start(proxy, spans, *options), spans)
