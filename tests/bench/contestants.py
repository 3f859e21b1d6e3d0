"""The proxies that are compared, each started as a program of its own in front of the benchmark's upstream."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from socket import create_server
from typing import Final

from .clients import ask_in_turn
from .installed import MissingError, installed
from .messages import MODEL, Script, chat_request

MITMPROXY: Final = "11.0.2"
LITELLM: Final = "1.106.2"

_START_LIMIT_S: Final = 120.0
_STOP_LIMIT_S: Final = 20.0
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Command:
    words: Sequence[str | Path]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Contestant:
    """`load`: the share of the others' load that it gets, where the whole would be more than it can do."""

    title: str
    command: Callable[[Path, int, int, int], Command]  # of its folder, its port, the upstream's, the OTLP endpoint's
    version: Callable[[], str]
    base_path: str = "/v1"
    load: float = 1.0

    def request(self, script: Script | None = None) -> bytes:
        return chat_request(self.base_path, script or Script())


@dataclass(frozen=True)
class Running:
    contestant: Contestant
    port: int
    pid: int
    folder: Path  # what it writes: configuration, log, spans

    @property
    def spans(self) -> Path:
        return self.folder / "spans"


@dataclass(frozen=True)
class Field:
    """Those that run, and those that don't with the reason, by name."""

    running: dict[str, Running]
    missing: dict[str, str]


@asynccontextmanager
async def started(names: Sequence[str], folder: Path, upstream_port: int, otlp_port: int = 9) -> AsyncIterator[Field]:
    """All of them side by side, until the block ends. One that can't be had is named as missing, and the rest run."""
    async with AsyncExitStack() as stack:
        starting = [_start(name, folder / name, upstream_port, otlp_port, stack) for name in names]
        found = dict(zip(names, await asyncio.gather(*starting), strict=True))
        yield Field(
            running={name: each for name, each in found.items() if isinstance(each, Running)},
            missing={name: each for name, each in found.items() if isinstance(each, str)},
        )


async def _start(name: str, folder: Path, upstream_port: int, otlp_port: int, stack: AsyncExitStack) -> Running | str:
    """The reason where it can't be started."""
    contestant = CONTESTANTS[name]
    port = _free_port()
    try:
        process = await asyncio.to_thread(_run, contestant, folder, port, upstream_port, otlp_port)
    except MissingError as missing:
        return str(missing)
    stack.push_async_callback(asyncio.to_thread, _stop, process)
    ends_s = time.monotonic() + _START_LIMIT_S
    failed = "no answer"
    while process.poll() is None and time.monotonic() < ends_s:
        try:
            await ask_in_turn(port, contestant.request(), 1, 1)
        except (OSError, RuntimeError, TimeoutError) as error:
            failed = str(error)
            await asyncio.sleep(0.1)
        else:
            return Running(contestant, port, process.pid, folder)
    last = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"didn't start: {last[-1] if last else failed}"


def _run(
    contestant: Contestant, folder: Path, port: int, upstream_port: int, otlp_port: int
) -> "subprocess.Popen[bytes]":
    """Raises MissingError."""
    folder.mkdir()
    command = contestant.command(folder, port, upstream_port, otlp_port)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**_environment(), **command.environment},
            start_new_session=True,
        )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _environment() -> dict[str, str]:
    """Ours without what would configure a contestant."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("DYNO_", "OTEL_", "LITELLM_"))}


# How each is started


def _bare(_folder: Path, port: int, upstream_port: int, _otlp_port: int) -> Command:
    upstream = f"http://127.0.0.1:{upstream_port}"
    return Command([sys.executable, _HERE / "bare_proxy.py", str(port), upstream], {})


def _dyno(*program: str, otlp: bool = False) -> Callable[[Path, int, int, int], Command]:
    def command(folder: Path, port: int, upstream_port: int, otlp_port: int) -> Command:
        toml = folder / "dyno.toml"
        toml.write_text(f'[endpoints.up]\nurl = "http://127.0.0.1:{upstream_port}/v1"\n', encoding="utf-8")
        flags: list[str | Path] = ["--config", toml, "--listen", f"127.0.0.1:{port}", "--spans", folder / "spans"]
        environment = {"PYTHONPATH": str(_HERE.parent)}
        if otlp:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{otlp_port}"
            environment["OTEL_BSP_SCHEDULE_DELAY"] = "200"  # ms, so that a run's spans are sent within the run
        return Command([sys.executable, "-m", *(program or ("dyno", "proxy")), *flags], environment)

    return command


def _nginx(folder: Path, port: int, upstream_port: int, _otlp_port: int) -> Command:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise MissingError("nginx isn't installed")
    temporary = "\n".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    configuration.write_text(
        _NGINX.format(folder=folder, port=port, upstream_port=upstream_port, temporary=temporary), encoding="utf-8"
    )
    return Command([program, "-e", folder / "error.log", "-p", folder, "-c", configuration], {})


_NGINX: Final = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    {temporary}
    keepalive_requests 100000000;
    upstream endpoint {{
        server 127.0.0.1:{upstream_port};
        keepalive 2000;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://endpoint;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


def _mitmproxy(folder: Path, port: int, upstream_port: int, _otlp_port: int) -> Command:
    program = installed("mitmproxy", MITMPROXY, "mitmdump")
    options = ("stream_large_bodies=1", "flow_detail=0", f"confdir={folder}")
    settings = [word for option in options for word in ("--set", option)]
    mode = f"reverse:http://127.0.0.1:{upstream_port}"
    where = ["--listen-host", "127.0.0.1", "--listen-port", str(port)]
    return Command([program, "--quiet", "--mode", mode, *where, *settings], {})


def _litellm(folder: Path, port: int, upstream_port: int, _otlp_port: int) -> Command:
    program = installed("litellm[proxy]", LITELLM, "litellm")
    configuration = folder / "litellm.yaml"
    configuration.write_text(
        f"""\
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: http://127.0.0.1:{upstream_port}/v1
      api_key: sk-benchmark
""",
        encoding="utf-8",
    )
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it waits for a file from the internet
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # dyno checks no keys here either
    }
    words: list[str | Path] = [
        program,
        "--config",
        configuration,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    return Command(words, environment)


# Their versions


def _nginx_version() -> str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return "nginx"
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().removeprefix("nginx version: ").replace("/", " ")


def _bare_version() -> str:
    return f"aiohttp {metadata.version('aiohttp')}, uvloop {metadata.version('uvloop')}"


def _dyno_version() -> str:
    return f"dyno {metadata.version('inference-dyno')}"


CONTESTANTS: Final = {
    "nginx": Contestant("nginx", _nginx, _nginx_version),
    "bare": Contestant("bare aiohttp", _bare, _bare_version),
    "dyno": Contestant("**dyno**", _dyno(), _dyno_version, "/up/v1"),
    "dyno-otlp": Contestant("dyno with OTLP export", _dyno(otlp=True), _dyno_version, "/up/v1"),
    "mitmproxy": Contestant("mitmproxy", _mitmproxy, lambda: f"mitmproxy {MITMPROXY}", load=0.1),
    "litellm": Contestant("LiteLLM's proxy", _litellm, lambda: f"litellm {LITELLM}", load=0.02),
    # dyno with something altered
    "no-telemetry": Contestant(
        "no spans, no histograms", _dyno("bench.altered_proxy", "no-telemetry"), _dyno_version, "/up/v1"
    ),
    "slow-disk": Contestant(
        "each write takes the disk 2 s", _dyno("bench.altered_proxy", "slow-disk"), _dyno_version, "/up/v1"
    ),
}
