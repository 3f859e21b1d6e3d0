"""A real OpenTelemetry Collector that runs beside a test: the one that `make otelcol` builds.

with collector(tmp_path, config) as running:
    …  # running.http_url and running.grpc_url take OTLP; os.kill(running.pid, …) is what a machine does to it
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from rigs.programs import running

COLLECTOR: Final = Path(__file__).parents[2] / ".venv" / "otelcol" / "otelcol"
needs_collector: Final = pytest.mark.skipif(
    not COLLECTOR.is_file(), reason="no OpenTelemetry Collector is built (make otelcol; it wants Go)"
)

# The Collector's own metrics would occupy port 8888.
QUIET: Final = {"service": {"telemetry": {"metrics": {"level": "none"}}}}
OTLP: Final = {
    "otlp": {"protocols": {"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0"}}},
}


_SAID: Final = (
    r"^pid (?P<pid>\d+)$"
    r'|Starting (?P<kind>GRPC|HTTP) server.*"otlp", .*"endpoint": "(?P<address>[^"]+)"'
    r"|Everything is ready"
)


@dataclass(frozen=True)
class Collector:
    pid: int
    http_url: str
    grpc_url: str


@contextmanager
def collector(
    folder: Path, *configs: Path | dict[str, Any], environment: Mapping[str, str] | None = None, gates: str = ""
) -> Iterator[Collector]:
    """It runs until the block ends, and then writes what it still holds. Later `configs` override earlier ones.

    Tests send to its first receiver. Its log is collector.log in `folder`.
    """
    command = [str(COLLECTOR), *(f"--config={source(config)}" for config in (*configs, QUIET))]
    command += [f"--feature-gates={gates}"] if gates else []
    shell = ["sh", "-c", 'echo "pid $$"; exec "$@"', "sh", *command]
    with running(shell, _SAID, folder / "collector.log", {**os.environ, **(environment or {})}, lines=4) as found:
        address = {match["kind"]: match["address"] for match in found}
        pid = next(int(match["pid"]) for match in found if match["pid"])
        yield Collector(pid, f"http://{address['HTTP']}", f"http://{address['GRPC']}")


def source(config: Path | dict[str, Any]) -> str:
    """The value for `--config`: a file, or the configuration itself as JSON, which is valid YAML."""
    return f"file:{config}" if isinstance(config, Path) else f"yaml:{json.dumps(config)}"


def to_files(**files: dict[str, Any]) -> dict[str, Any]:
    """A configuration that receives OTLP and writes it to files. `files`: name -> the file exporter's settings."""
    exporters = {f"file/{name}": options for name, options in files.items()}
    return {
        "receivers": OTLP,
        "exporters": exporters,
        "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": list(exporters)}}},
    }
