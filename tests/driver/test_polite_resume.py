"""Answers outlive a kill -9 and a full disk, and `--resume` sends what is missing, no request twice."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from rigs.dyno_command import dyno
from rigs.fake_proxy import FakeProxy, Script, answering, fake_proxy
from rigs.small_disk import small_disk
from rigs.until import until

DYNO = (sys.executable, "-m", "dyno")


async def start(proxy: FakeProxy, spans: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*DYNO, "drive", "--proxy", proxy.url, "--spans", str(spans), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def drive(proxy: FakeProxy, spans: Path, *options: str) -> tuple[int | None, str, str]:
    process = await start(proxy, spans, *options)
    out, err = await asyncio.wait_for(process.communicate(), 100)
    return process.returncode, out.decode(), err.decode()


def run_folder(spans: Path) -> Path:
    [folder] = (spans / "runs").iterdir()
    return folder


def record(spans: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_folder(spans) / "run.json").read_text())
    return found


def answered(spans: Path) -> Counter[tuple[str, str, int]]:
    rows = pq.read_table(run_folder(spans) / "answers.parquet").to_pylist()
    return Counter((row["endpoint"], row["prompt_id"], row["repeat"]) for row in rows if not row["warmup"])


def hanging_after(answers: int, reached: asyncio.Event, at_once: int = 1) -> Script:
    """Answers so many requests; then it hangs, and sets `reached` once `at_once` hang."""
    answer, asked = answering("x"), 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked <= answers:
            return await answer(request)
        if asked == answers + at_once:
            reached.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    return script


LOADS: Mapping[str, tuple[list[str], int]] = {
    "pair": (["--repeat", "2"], 1),
    "block": (["--concurrency", "3"], 1),
    "parallel": (["--concurrency", "2", "--interleave", "parallel"], 2),
    "open": (["--rate", "40", "--seed", "5"], 3),
    "several": (["-n", "5", "--concurrency", "1,2", "--order", "random"], 1),
}


@pytest.mark.parametrize(("load", "answers"), [("pair", 0), *((load, 15) for load in LOADS)])
async def test_kill_and_resume(tmp_path: Path, load: str, answers: int) -> None:
    """After kill -9 every request has its one answer, of one run, and none that was answered is sent again."""
    options, at_once = LOADS[load]
    reached = asyncio.Event()
    script = hanging_after(answers, reached, at_once if answers else 1)
    async with fake_proxy({"a": script, "b": script}) as proxy:
        process = await start(proxy, tmp_path, *options)
        await asyncio.wait_for(reached.wait(), 60)
        process.kill()
        await process.communicate()
    folder = run_folder(tmp_path)
    assert record(tmp_path)["finished_at"] is None
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    kept = {(row["endpoint"], row["prompt_id"], row["repeat"]) for row in lines if row.get("warmup") is False}
    scripts = {"a": answering("y"), "b": answering("y")}
    async with fake_proxy(scripts) as proxy:
        code, out, err = await drive(proxy, tmp_path, "--resume", folder.name)
        asked = Counter(
            (received.endpoint, member["dyno.prompt.id"], int(member["dyno.repeat"]))
            for received in proxy.received
            if (member := baggage(received.headers["baggage"]))["dyno.warmup"] == "false"
        )
    assert (code, f"Run {folder.name} goes on: {len(kept)} answers are there" in out) == (0, True), err
    loads = 2 if load == "several" else 1
    repeats = 2 if load == "pair" else 1
    expected = (5 if load == "several" else 10) * loads * repeats * 2
    found = answered(tmp_path)
    assert (len(found), set(found.values())) == (expected, {1})
    assert set(asked.values()) == {1}
    assert not kept & set(asked)
    assert len(kept) + len(asked) == expected
    after = record(tmp_path)
    assert (len(after["resumed_at"]), after["interrupted"], after["finished_at"] is None) == (1, False, False)
    assert not (folder / "answers.jsonl").exists()


def baggage(header: str) -> dict[str, str]:
    return dict(member.split("=", 1) for member in header.split(","))


async def test_a_report_of_a_resumed_run(tmp_path: Path) -> None:
    """With a real proxy and simulated endpoints: after kill -9 under load the report counts each request once, and the
    requests that were under way are left out of it.
    """
    words = [
        "compare",
        "--simulate",
        "--simulate-speed",
        "20",
        "--concurrency",
        "4",
        "-n",
        "40",
        "--prompts",
        "p.jsonl",
    ]
    lines = (json.dumps({"prompt": f"What is {number}?"}) for number in range(40))
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    process = await asyncio.create_subprocess_exec(
        *DYNO, *words, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    for _ in range(30):
        await process.stderr.readline()
    children = children_of(process.pid)
    process.kill()
    for child in children:
        os.kill(child, signal.SIGTERM)
    await process.wait()  # its children have its stderr, too
    await until(lambda: not any(map(runs, children)), "the children's end")
    spans = tmp_path / "spans-simulated"
    folder = run_folder(spans)
    done = await asyncio.to_thread(dyno, "compare", "--resume", "latest", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = answered(spans)
    assert (len(found), set(found.values())) == (80, {1})
    report = json.loads(next(folder.glob("*results*.json")).read_text())
    rows = Counter(
        (row["endpoint"], row["prompt_id"], row["run"])
        for row in flat(report)
        if row.get("outcome", "ok") != "client_cancelled"
    )
    assert set(rows.values()) <= {1}


def flat(report: Any) -> list[dict[str, Any]]:
    """The rows of a results file that are of one request each."""
    if isinstance(report, list):
        return [row for part in report for row in flat(part)]
    if isinstance(report, dict):
        own = [report] if {"endpoint", "prompt_id", "run"} <= set(report) else []
        return own + [row for part in report.values() for row in flat(part)]
    return []


def runs(pid: int) -> bool:
    """Whether the process runs still; one that nobody waits for has ended, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in found]


async def test_a_full_disk_and_resume(tmp_path: Path) -> None:
    """A full disk ends the run with exit code 1 and one line; with room again, what is missing is sent."""
    with small_disk(tmp_path / "disk", 400) as disk:
        answer = answering("z" * 2000)

        async def script(request: web.Request) -> web.StreamResponse:
            if len(proxy.received) == 9:
                disk.fill()
            return await answer(request)

        async with fake_proxy({"a": script, "b": script}) as proxy:
            code, out, err = await drive(proxy, disk.path)
            assert code == 1
            assert "Traceback" not in err
            assert "No space left on device: make room, then go on with --resume" in out
            assert len(proxy.received) < 14
            disk.make_room()
            before = len(proxy.received)
            code, out, err = await drive(proxy, disk.path, "--resume", "latest")
        assert code == 0, (out, err)
        found = answered(disk.path)
        assert (len(found), set(found.values())) == (20, {1})
        assert len(proxy.received) - before < 20


async def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    """Half a line, as a full disk or a crash leaves it, costs the one answer, which is asked again."""
    reached = asyncio.Event()
    script = hanging_after(9, reached)
    async with fake_proxy({"a": script, "b": script}) as proxy:
        process = await start(proxy, tmp_path)
        await asyncio.wait_for(reached.wait(), 60)
        process.kill()
        await process.communicate()
    journal = run_folder(tmp_path) / "answers.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7] + b"\n\x00\xff{\n[]\n" + b'{"sent": "12')
    async with fake_proxy({"a": answering("y"), "b": answering("y")}) as proxy:
        code, _, err = await drive(proxy, tmp_path, "--resume", run_folder(tmp_path).name[:12])
    assert code == 0, err
    found = answered(tmp_path)
    assert (len(found), set(found.values())) == (20, {1})


async def test_what_cant_be_resumed(tmp_path: Path) -> None:
    """Each is one line and exit code 2: no such run, a finished one, one that goes on, another command, an unreadable
    record, other prompts, endpoints or options.
    """
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    spans, reached = tmp_path / "s", asyncio.Event()
    script = hanging_after(3, reached)
    answer = {"a": answering("y"), "b": answering("y")}

    async def refused(proxy: FakeProxy, says: str, *options: str) -> None:
        code, out, err = await drive(proxy, spans, *options)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert says in err
        assert proxy.received == []

    async with fake_proxy({"a": script, "b": script}) as proxy:
        process = await start(proxy, spans, "--prompts", str(prompts))
        await asyncio.wait_for(reached.wait(), 60)
        async with fake_proxy(answer) as other:
            await refused(other, "goes on at this moment, in another process", "--resume", "latest")
        process.kill()
        await process.communicate()
    async with fake_proxy(answer) as proxy:
        await refused(proxy, "--resume 1999: no such run in", "--resume", "1999")
        await refused(proxy, "max_tokens isn't as it began", "--resume", "latest", "--max-tokens", "7")
        await refused(proxy, "the schedule isn't the one it began with", "--resume", "latest", "--order", "random")
        await refused(proxy, "it began with a, b, and now asks a", "--resume", "latest", "--endpoints", "a")
        prompts.write_text('{"prompt": "one"}\n{"prompt": "three"}\n')
        await refused(proxy, "the prompts of", "--resume", "latest")
        prompts.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    async with fake_proxy(answer, {"b": {"model": "another"}}) as proxy:
        await refused(proxy, "endpoint 'b' was b-model at", "--resume", "latest")
    done = dyno("compare", "--resume", "latest", "--spans", spans)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was begun by 'dyno drive'; resume it with that" in done.stderr
    async with fake_proxy(answer) as proxy:
        code, _, err = await drive(proxy, spans, "--resume", "latest")
        assert code == 0, err
        proxy.received.clear()
        await refused(proxy, "is finished: every request has its answer", "--resume", "latest")
        (run_folder(spans) / "run.json").write_text("{")
        await refused(proxy, "can't be read", "--resume", "latest")
