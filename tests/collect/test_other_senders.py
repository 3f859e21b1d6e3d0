"""Senders in other languages: OpenTelemetry's SDK for Node.js, and the real Collector, which is written in Go."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from rigs.collector_process import OTLP, collector, needs_collector
from rigs.collector_rig import message, post, running_collector
from rigs.network import free_port
from rigs.otlp_files import protobuf, readable
from rigs.records import record
from rigs.until import until_in_thread

SENDER: Final = Path(__file__).parent / "node"
INSTALLED: Final = Path(__file__).parents[2] / ".venv" / "collect_node"


@pytest.fixture(scope="session")
def node() -> Path:
    """The folder in which the sender runs, with its packages. It is made once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js with npm isn't installed (Debian: apt-get install nodejs npm)")
    INSTALLED.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", "send.mjs"):
        shutil.copy(SENDER / name, INSTALLED)
    lock = (SENDER / "package-lock.json").read_bytes()
    stamp = INSTALLED / "installed"
    if not stamp.exists() or stamp.read_bytes() != lock:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm can't install the SDK for Node.js: {done.stderr.strip().splitlines()[-1]}")
        stamp.write_bytes(lock)
    return INSTALLED


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("encoding", ["json", "proto"])
def test_the_sdk_for_node(node: Path, tmp_path: Path, encoding: str, compression: str) -> None:
    """Both of its exporters send spans: every span arrives with all that it was given."""
    with running_collector(tmp_path) as running:
        command = ["node", "send.mjs", f"{running.url}/v1/traces", encoding, compression, "1000"]
        done = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        rows = running.rows()
    assert sorted(row["output_tokens"] for row in rows) == list(range(1, 1001))
    first = next(row for row in rows if row["output_tokens"] == 1)
    assert (first["operation"], first["model"], first["finish_reasons"]) == ("chat", "m", ["stop"])
    assert (first["name"], first["kind"]) == ("chat m", "CLIENT")
    attributes = first["attributes"]
    assert attributes["resource.service.name"] == "node-client"
    assert attributes["otel.scope.name"] == "tests.node"
    assert (attributes["ratio"], attributes["wörter"]) == ("0.5", "grüße")
    assert (attributes["otel.status_code"], attributes["otel.status_description"]) == ("ERROR", "no")
    assert '"half way"' in attributes["otel.events"]


@needs_collector
def test_the_real_collector(tmp_path: Path) -> None:
    """The Collector passes spans on as protobuf, JSON and gzip, and holds them while `dyno collect` is down."""
    port = free_port()
    exporters = {
        f"otlphttp/{encoding}": {
            "endpoint": f"http://127.0.0.1:{port}",
            "encoding": encoding,
            "retry_on_failure": {"initial_interval": "200ms", "max_interval": "500ms"},
        }
        for encoding in ("proto", "json")
    }
    config: dict[str, Any] = {
        "receivers": OTLP,
        "exporters": exporters,
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": list(exporters)}}},
    }
    spans = [readable(record(trace_id=5, span_id=number)) for number in range(1, 101)]
    others = message(*({"span_id": number.to_bytes(8), "trace_id": (6).to_bytes(16)} for number in range(1, 101)))
    with collector(tmp_path, config) as sender:
        asyncio.run(_post_all(sender.http_url, protobuf(spans), others))  # nobody listens yet
        with running_collector(tmp_path / "ours", "--listen", f"127.0.0.1:{port}") as running:
            # Both exporters send all: what comes a second time isn't stored again.
            until_in_thread(
                lambda: (len(running.rows("")), len(running.rows())) == (100, 100), "100 rows of each kind", every_s=0.1
            )
            os.kill(sender.pid, 15)  # its queue is empty when it has ended
            requests, collected = running.rows(""), running.rows()
    assert {row["span_id"] for row in requests} == {f"{number:016x}" for number in range(1, 101)}
    assert {row["outcome"] for row in requests} == {"ok"}
    assert {row["span_id"] for row in collected} == {f"{number:016x}" for number in range(1, 101)}
    assert (len(requests), len(collected)) == (100, 100)


async def _post_all(url: str, *bodies: bytes) -> None:
    async with aiohttp.ClientSession() as session:
        for body in bodies:
            assert (await post(session, url, body))[0] == 200
