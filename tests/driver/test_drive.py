import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from rigs.fake_proxy import FakeProxy, Script, answering, fake_proxy, saying
from rigs.running_proxy import RunningProxy
from rigs.until import LIMIT_S

DYNO = (sys.executable, "-m", "dyno")


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
        *DYNO,
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


async def test_a_whole_run(tmp_path: Path) -> None:
    """Both endpoints are asked the same prompts in interleaved pairs, each by its own model; all of it is on record."""
    scripts = {"metis": answering("one", "dyno-simulate"), "sophia": answering("two")}
    about = {"metis": {"hardware": "SN40L", "price": {"input_per_million": 0.2, "output_per_million": 0.6}}}
    async with fake_proxy(scripts, about) as proxy:
        done = await drive(proxy, tmp_path, "-n", "3", "--temperature", "0.7", "--repeat", "2", "--sampling-seed", "5")
    assert done.code == 0, done.err
    assert done.err.count("\n") == 14
    assert f"Tables: dyno report {done.folder.name} --spans {tmp_path}" in done.out
    assert "Simulated, as they say themselves: metis." in done.out
    assert re.fullmatch(r"\d{8}_\d{6}_[0-9a-f]{4}", done.folder.name)

    assert [received.endpoint for received in proxy.received] == [
        *("metis", "sophia"),
        *("metis", "sophia", "sophia", "metis", "metis", "sophia"),
        *("sophia", "metis", "metis", "sophia", "sophia", "metis"),
    ]
    asked = {name: proxy.asked(name) for name in scripts}
    for name, bodies in asked.items():
        assert {body.pop("model") for body in bodies} == {f"{name}-model"}
    key = json.dumps
    assert sorted(map(key, asked["metis"])) == sorted(map(key, asked["sophia"]))
    assert all(body["seed"] == 5 and body["temperature"] == 0.7 for body in asked["metis"])

    prompts = {row["prompt_id"]: row["prompt"] for row in done.rows("prompts")}
    assert list(prompts) == ["quantum-mechanics-1", "photosynthesis-1", "machine-learning-1"]
    answers = done.rows("answers")
    assert [row["endpoint"] for row in answers] == [received.endpoint for received in proxy.received]
    for row, received in zip(answers, proxy.received, strict=True):
        assert row["answer"] == {"metis": "one", "sophia": "two"}[row["endpoint"]]
        assert received.headers["traceparent"].split("-")[1] == row["trace_id"]
        assert f"dyno.run.id={done.folder.name}," in received.headers["baggage"]
        if not row["warmup"]:
            assert received.body["messages"][0]["content"] == prompts[row["prompt_id"]]
    assert [(row["prompt_id"], row["repeat"], row["warmup"]) for row in answers[::2]] == [
        ("warm-up", 1, True),
        *((prompt_id, repeat, False) for repeat in (1, 2) for prompt_id in prompts),
    ]
    assert len({row["trace_id"] for row in answers}) == 14

    _check_record(done.record, done.folder.name)


def _check_record(record: dict[str, Any], run_id: str) -> None:
    """What run.json says of the run above."""
    assert record["run_id"] == run_id
    assert record["command"][:2] == ["dyno", "drive"]
    assert (record["interrupted"], record["workload"], record["order"]) == (False, "single", "alternate")
    assert record["started_at"] < record["finished_at"]
    assert record["prompt_set"]["count"] == 3
    assert record["parameters"] == {
        "temperature": 0.7,
        "max_tokens": 512,
        "seed": 5,
        "stream": True,
        "repeat": 2,
        "warmup": 1,
    }
    assert record["endpoints"]["metis"] == {
        "model": "metis-model",
        "url": "http://metis.example/v1",
        "provider": None,
        "hardware": "SN40L",
        "price": {"input_per_million": 0.2, "output_per_million": 0.6},
        "power_w": None,
        "simulated": True,
    }
    assert record["endpoints"]["sophia"]["simulated"] is False
    assert record["method"] == (
        "3 prompts, each sent 2 times to metis and sophia, one endpoint right after the other, "
        "who goes first alternating, one request at a time, streamed, after 1 warm-up request to each endpoint."
    )


@pytest.mark.parametrize("given", [True, False], ids=["seed given", "seed drawn"])
async def test_a_random_order_can_be_had_again(tmp_path: Path, given: bool) -> None:
    """The seed of a random order is on record, also a drawn one, and gives the same order again."""
    scripts = {"a": answering("x"), "b": answering("x")}
    options = ["-n", "8", "--order", "random", "--warmup", "0"]
    async with fake_proxy(scripts) as proxy:
        first = await drive(proxy, tmp_path / "1", *options, *(["--seed", "7"] if given else []))
        order = [received.endpoint for received in proxy.received]
        proxy.received.clear()
        await drive(proxy, tmp_path / "2", *options, "--seed", str(first.record["seed"]))
        assert [received.endpoint for received in proxy.received] == order
    assert not given or first.record["seed"] == 7


async def test_an_endpoint_that_is_down(tmp_path: Path) -> None:
    """The run goes on to its end; failures are counted, named and kept, and the exit code is 1."""
    down = saying(502, {"error": {"message": "endpoint 'b': it broke off", "type": "dyno_proxy_error"}})
    async with fake_proxy({"a": answering("x"), "b": down}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "2")
    assert done.code == 1
    assert "b: 2 of 2 requests failed; the first: HTTP 502: endpoint 'b': it broke off" in done.out
    errors = [(row["endpoint"], row["status"], row["error"] is None) for row in done.rows("answers")]
    assert errors.count(("a", 200, True)) == errors.count(("b", 502, False)) == 3
    assert done.record["endpoints"]["b"]["simulated"] is None


async def test_an_endpoint_that_refuses(tmp_path: Path) -> None:
    """A connection that is refused stops the run at the endpoint's first request."""
    down = saying(502, {"error": {"message": "b: h:9", "type": "dyno_proxy_error", "code": "connection_refused"}})
    async with fake_proxy({"a": answering("x"), "b": down}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "2")
    assert done.code == 1
    assert len(proxy.received) == 2
    assert "Stopped by endpoint 'b' at" in done.out
    assert "Tables:" not in done.out


async def test_a_failed_warm_up_is_no_failure(tmp_path: Path) -> None:
    """Warm-ups don't count: if only they fail, the run is a success. One more is sent until the model is loaded."""
    answer = answering("x")

    async def script(request: web.Request) -> web.StreamResponse:
        cold = len(proxy.received) == 1
        return await (saying(503, {"error": "cold"}) if cold else answer)(request)

    async with fake_proxy({"a": script}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "1")
    assert done.code == 0
    assert [row["error"] for row in done.rows("answers")] == ["HTTP 503: cold", None, None]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_keeps_what_was_measured(tmp_path: Path, number: signal.Signals) -> None:
    """A second signal aborts the request under way, and everything before it is on record."""
    reached, aborted = asyncio.Event(), asyncio.Event()
    answer = answering("x")

    async def script(request: web.Request) -> web.StreamResponse:
        if len(proxy.received) < 4:
            return await answer(request)
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            aborted.set()
        raise AssertionError("nobody sets it")

    async with fake_proxy({"a": script, "b": script}) as proxy:
        process = await start(proxy, tmp_path)
        await asyncio.wait_for(reached.wait(), LIMIT_S)
        process.send_signal(number)
        assert process.stderr is not None
        while b"stopping: waiting for 1 request under way" not in await process.stderr.readline():
            pass
        process.send_signal(number)
        done = await asyncio.wait_for(finish(process, tmp_path), 60)
        await asyncio.wait_for(aborted.wait(), LIMIT_S)
    assert done.code == 1
    assert "Stopped by a signal, after 3 of 22 requests; 1 request given up; what was measured is kept." in done.out
    assert len(done.rows("answers")) == 3
    assert done.record["interrupted"] is True
    assert done.record["finished_at"] is not None


async def test_a_proxy_that_goes_away(tmp_path: Path) -> None:
    """If the proxy disappears, the run ends, says so, and keeps what was measured."""
    answer = answering("x")
    gone = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse:
        if len(proxy.received) == 3:
            gone.set()
            await asyncio.Event().wait()
        return await answer(request)

    async with fake_proxy({"a": script}) as proxy:
        process = await start(proxy, tmp_path, "--patience", "1s")
        await asyncio.wait_for(gone.wait(), 60)
    done = await asyncio.wait_for(finish(process, tmp_path), 60)
    assert done.code == 1
    assert f"Stopped by the proxy at {proxy.url} is gone" in done.out
    assert [row["error"] is None for row in done.rows("answers")] == [True, True, False]
    assert done.record["interrupted"] is True


async def test_what_an_endpoint_says_can_be_stored(tmp_path: Path) -> None:
    """The run's answers are kept even if one has text that JSON can spell but UTF-8 can't hold."""
    document = b'{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "stop"}]}'

    async def script(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=document, content_type="application/json")

    async with fake_proxy({"a": script}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "1", "--warmup", "0", "--no-stream")
    assert done.code == 0, done.err
    assert [row["answer"] for row in done.rows("answers")] == ["a?b"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--endpoints", "metis,sofia"),
            "no endpoint 'sofia'; did you mean 'sophia'? configured endpoints: metis, sophia",
        ),
        (("--endpoints", "metis,metis"), "'metis' is given twice"),
        (("--endpoints", "metis,"), "has an empty name"),
        (("--prompts", "missing.json"), "missing.json: no such file"),
        (("--spans", "{file}"), "can't be written: Not a directory"),
        (("-n", "0"), "'0' must be a whole number, 1 or more"),
        (("--warmup", "-1"), "'-1' must be a whole number, 0 or more"),
        (("--temperature", "-1"), "'-1' must be a number, 0 or more, or 'none'"),
        (("--temperature", "nan"), "'nan' must be a number, 0 or more, or 'none'"),
        (("--max-tokens", "few"), "'few' must be a whole number"),
        (("--timeout", "0"), "'0' must be a number of seconds above 0"),
        (("--workload", "singel"), "no workload 'singel'; did you mean 'single'?"),
        (("--proxy", "127.0.0.1:8080"), "must be the proxy's http or https URL"),
        (("--proxy", "http://me:secret@127.0.0.1"), "DYNO_API_KEY"),
        (("--proxy", "http://127.0.0.1:1"), "no proxy at http://127.0.0.1:1: Connection refused"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
    ],
)
async def test_wrong_use(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    """Wrong use is one line that names what is wrong, exit code 2, before anything is asked."""
    file = tmp_path / "file"
    file.touch()
    scripts: dict[str, Script] = {"metis": answering("x"), "sophia": answering("x")}
    async with fake_proxy(scripts) as proxy:
        done = await drive(proxy, tmp_path / "spans", *(option.format(file=file) for option in options))
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("dyno drive: ")
    assert says in done.err
    assert "secret" not in done.err
    assert proxy.received == []
    assert not (tmp_path / "spans").exists()
