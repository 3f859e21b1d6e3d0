import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from aiohttp import web

from dyno_driver.child_process import Child, ChildError
from dyno_driver.commands.compare import simulated_config
from rigs.fake_proxy import Script, answering
from rigs.terminal import read_all

COMPARE = (sys.executable, "-m", "dyno", "compare")
SIMULATE_READY = re.compile(r"dyno simulate: (\S+) on (http\S+)")


async def start(folder: Path, *options: str, environment: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DYNO_")}
    return await asyncio.create_subprocess_exec(
        *COMPARE,
        *options,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=kept | (environment or {}),
    )


async def compare(folder: Path, *options: str) -> tuple[int | None, str, str]:
    process = await start(folder, *options)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def children_of(parent: int) -> set[int]:
    """Processes whose parent is `parent`, from /proc (the second field after the name in brackets)."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(fields[1]) == parent:
            found.add(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def upstream(scripts: dict[str, Script]) -> tuple[web.AppRunner, dict[str, str]]:
    """Endpoints by name, each under a path of its own; returns what runs them, and their URLs."""
    app = web.Application()
    for name, script in scripts.items():
        app.router.add_post(f"/{name}/v1/chat/completions", script)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, {name: f"http://127.0.0.1:{runner.addresses[0][1]}/{name}/v1" for name in scripts}


def config_with(folder: Path, urls: dict[str, str]) -> str:
    path = folder / "dyno.toml"
    path.write_text("".join(f'[endpoints.{name}]\nurl = "{url}"\nmodel = "m"\n' for name, url in urls.items()))
    return str(path)


async def test_what_was_measured_is_reported_and_listed(tmp_path: Path) -> None:
    """The tables follow the run, then come the paths: report, raw results, and this run's own span files."""
    runner, urls = await upstream({"left": answering("one"), "right": answering("two")})
    code, out, err = await compare(tmp_path, "--config", config_with(tmp_path, urls), "-n", "2", "--spans", "kept")
    await runner.cleanup()
    assert code == 0, err
    *_, report, results, spans = out.splitlines()
    [folder] = (tmp_path / "kept" / "runs").iterdir()
    assert (tmp_path / report) == folder / "report.md"
    assert (tmp_path / results).parent == folder
    assert (tmp_path / results).name.startswith("left_vs_right_results_")
    rows = [json.loads(line) for line in (tmp_path / spans).read_text().splitlines()]
    assert [row["endpoint"] for row in rows] == ["left", "right", "left", "right", "right", "left"]
    assert "imulated" not in out


async def test_on_a_terminal_the_answer_stands_on_one_screen(tmp_path: Path) -> None:
    """The screen of 24 lines that the command leaves has the answer, the report's path and the command for the rest."""
    runner, urls = await upstream({"left": answering("one"), "right": answering("two")})
    primary, secondary = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DYNO_")}
    process = await asyncio.create_subprocess_exec(
        *(*COMPARE, "--config", config_with(tmp_path, urls), "-n", "2"),
        stdout=secondary,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment | {"COLUMNS": "80", "TERM": "dumb"},
    )
    os.close(secondary)
    written = await asyncio.to_thread(read_all, primary)
    os.close(primary)
    assert await process.wait() == 0
    await runner.cleanup()
    lines = written.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("spans    "))
    assert lines[start].startswith("spans    spans/")
    answer = lines[start + 2 :]
    assert answer[0].startswith("Undecided: how the latencies of left and right compare (ratio ")
    assert len(answer) <= 20
    assert max(map(len, lines)) <= 80
    report, everything = answer[-2:]
    assert report.split()[0] == "report"
    assert Path(tmp_path, report.split()[1]).name == "report.md"
    assert re.fullmatch(r"all      dyno report \S+ --all", everything)


async def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    """A second Ctrl-C ends the run: the table of what was measured is printed, and no child is left."""
    reached = asyncio.Event()
    answer, asked = answering("one"), 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked < 7:
            return await answer(request)
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    runner, urls = await upstream({"left": script, "right": script})
    process = await start(tmp_path, "--config", config_with(tmp_path, urls))
    await asyncio.wait_for(reached.wait(), 60)
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"stopping: waiting for 1 request" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    await runner.cleanup()
    assert b"Traceback" not in err
    assert process.returncode == 1
    assert b"Stopped by a signal, after 6 of 22 requests" in out
    assert b"mean latency" in out
    [record] = (tmp_path / "spans" / "runs").glob("*/run.json")
    assert json.loads(record.read_text())["interrupted"] is True
    assert children
    assert not any(alive(pid) for pid in children)


async def test_simulated_endpoints_are_called_so(tmp_path: Path) -> None:
    """Without dyno.toml the endpoints are simulated: it is said first, their spans lie apart, and no variable makes one
    of them real.
    """
    real = {"DYNO_ENDPOINTS_METIS_URL": "http://127.0.0.1:1/v1"}
    process = await start(tmp_path, "-n", "1", "--warmup", "0", "--endpoints", "metis", environment=real)
    assert process.stdout is not None
    first = (await process.stdout.readline()).decode()
    assert first == "No --config and no dyno.toml: metis and sophia are simulated; nothing real is measured.\n"
    await process.communicate()
    assert not (tmp_path / "spans").exists()
    [record] = (tmp_path / "spans-simulated" / "runs").glob("*/run.json")
    endpoints = json.loads(record.read_text())["endpoints"]
    assert endpoints["metis"]["simulated"] is True
    assert endpoints["metis"]["hardware"] == "simulated"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--endpoints", "metis,sofia"), "dyno compare: --endpoints: no endpoint 'sofia'; did you mean 'sophia'?"),
        (("--prompts", "missing.json"), "dyno compare: --prompts missing.json: no such file"),
        (("--config", "missing.toml"), "dyno compare: missing.toml: "),
        (("--config", "typo.toml"), "dyno compare: typo.toml: "),
        (("--spans", "typo.toml"), "dyno compare: "),
        (("--simulate", "--config", "typo.toml"), "dyno compare: --simulate and --config exclude each other"),
        (("--simulate-speed", "0"), "dyno compare: argument --simulate-speed: "),
        (("--column", "text"), "dyno compare: --column: record 1 of science has no 'text' (its columns: "),
        (("--wrong",), "dyno compare: unrecognized arguments: --wrong"),
    ],
)
async def test_wrong_use(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    """Wrong use is one line on stderr and exit code 2, even if a child finds it, and no request is sent."""
    (tmp_path / "typo.toml").write_text('[endpoints.metis]\nurll = "http://127.0.0.1:1/v1"\n')
    code, _, err = await compare(tmp_path, *options)
    assert code == 2
    assert err.startswith(says)
    assert err.count("\n") == 1
    assert not (tmp_path / "spans" / "runs").exists()


async def test_a_child_is_started_and_ended() -> None:
    """A child is ready once its lines have come, and has ended once it was stopped."""
    child = await Child.start("simulate", ["--profile", "metis", "--profile", "sophia", "--listen", "127.0.0.1:0"])
    lines = await child.ready(SIMULATE_READY, 2)
    assert [line[1] for line in lines] == ["metis", "sophia"]
    assert alive(child.pid)
    await child.stop()
    assert not alive(child.pid)


async def test_a_child_that_ends_at_once() -> None:
    """`spoke` is true for a child that refuses its arguments, and false for one that ends otherwise."""
    child = await Child.start("simulate", ["--profile", "nonsense"])
    with pytest.raises(ChildError) as raised:
        await child.ready(SIMULATE_READY)
    await child.stop()
    assert raised.value.spoke
    child = await Child.start("simulate", ["--help"])
    with pytest.raises(ChildError, match="'dyno simulate' ended with exit code 0 before it was ready") as raised:
        await child.ready(SIMULATE_READY)
    await child.stop()
    assert not raised.value.spoke


def test_the_simulated_configuration() -> None:
    """The simulated endpoints' dyno.toml has each endpoint's URL, model, and that its hardware is simulated."""
    config = tomllib.loads(simulated_config({"metis": "http://127.0.0.1:1/v1", "sophia": "http://127.0.0.1:2/v1"}))
    assert config["endpoints"] == {
        "metis": {
            "url": "http://127.0.0.1:1/v1",
            "model": "gpt-oss-120b",
            "provider": "sambanova",
            "hardware": "simulated",
        },
        "sophia": {
            "url": "http://127.0.0.1:2/v1",
            "model": "openai/gpt-oss-120b",
            "provider": "vllm",
            "hardware": "simulated",
        },
    }
