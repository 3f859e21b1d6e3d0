"""deploy/collector/ as users run it: the Collector's checker accepts the file, which works unchanged on one machine."""

import asyncio
import subprocess
from pathlib import Path
from typing import Final

from rigs.collector_process import COLLECTOR, collector, needs_collector
from rigs.fake_upstream import fake_upstream
from rigs.imports import imported, rows
from rigs.network import free_port
from rigs.raw_http import exchange, post_json
from rigs.running_proxy import in_thread, running_proxy
from rigs.until import until

pytestmark = needs_collector

CONFIG: Final = Path(__file__).parents[2] / "deploy" / "collector" / "collector.yaml"


def test_the_collector_accepts_it() -> None:
    """`otelcol validate` accepts the unchanged file."""
    checked = subprocess.run([COLLECTOR, "validate", f"--config={CONFIG}"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_checker_finds_mistakes(tmp_path: Path) -> None:
    """`otelcol validate` reports a wrong file, so its silence means that a file is right."""
    misspelt = tmp_path / "collector.yaml"
    misspelt.write_text(CONFIG.read_text(encoding="utf-8").replace("sending_queue:", "sending_queu:"), encoding="utf-8")
    checked = subprocess.run(
        [COLLECTOR, "validate", f"--config={misspelt}"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 1
    assert "sending_queu" in checked.stderr


async def test_on_one_machine(tmp_path: Path) -> None:
    """Spans go from the proxy to the Collector, its file and `dyno import`. Only addresses and folders are set."""
    inner, lines = f"127.0.0.1:{free_port()}", tmp_path / "written" / "spans.jsonl"
    places = {
        "OTLP_HTTP_LISTEN": "127.0.0.1:0",
        "OTLP_GRPC_LISTEN": "127.0.0.1:0",
        "QUEUED_LISTEN": inner,
        "NEXT": inner,
        "HEALTH_LISTEN": "127.0.0.1:0",
        "QUEUE_DIRECTORY": str(tmp_path / "queue"),
        "SPANS_FILE": str(lines),
    }
    ask = post_json(
        "/e/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": "?"}]}
    )
    async with fake_upstream() as upstream, in_thread(collector(tmp_path, CONFIG, environment=places)) as running:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": running.http_url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        async with in_thread(running_proxy(tmp_path, {"e": upstream.url}, environment=environment)) as proxy:
            for _ in range(5):
                assert (await exchange(proxy.url, ask)).status == 200
            sent = {(row["span_id"],) for row in await proxy.rows(5)}
            await until(
                lambda: lines.is_file() and all(span_id in lines.read_text() for (span_id,) in sent),
                "the spans in the Collector's file",
            )
    await asyncio.to_thread(imported, tmp_path / "imported", lines)
    assert set(await asyncio.to_thread(rows, tmp_path / "imported", "span_id")) == sent
