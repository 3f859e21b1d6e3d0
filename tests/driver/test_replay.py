import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dyno_driver.options.command_line import ArgumentParser
from dyno_driver.options.run_options import RunOptions, check_run, parse_run, run_options
from rigs.driven import drive, start
from rigs.dyno_command import refusal
from rigs.fake_proxy import FakeProxy, answering, fake_proxy
from rigs.shared_data import SHARED, needs_shared
from rigs.until import until

MOONCAKE = SHARED / "data" / "mooncake_conversation_2000.jsonl"
BLOCK = 512 * 4  # characters of a block of 512 words


def options_of(*argv: str) -> RunOptions:
    parser = ArgumentParser(prog="dyno drive")
    options = run_options(parse_run(parser, list(argv)))
    check_run(parser, options)
    return options


def sent(proxy: FakeProxy, endpoint: str) -> list[dict[str, Any]]:
    """The endpoint's requests that count, in order of their prompts: text, longest answer, when it was due."""
    found = []
    for each in proxy.received:
        tags = dict(member.split("=", 1) for member in each.headers["baggage"].split(","))
        if each.endpoint == endpoint and tags["dyno.warmup"] == "false":
            found.append(
                {
                    "id": int(tags["dyno.prompt.id"]),
                    "text": each.body["messages"][0]["content"],
                    "body": each.body,
                    "due_us": int(tags["dyno.due_at_unix_us"]),
                    "lag_s": float(tags["dyno.send_lag_s"]),
                }
            )
    return sorted(found, key=lambda one: one["id"])


@needs_shared
async def test_a_replay_keeps_times_lengths_and_shared_prefixes(tmp_path: Path) -> None:
    """Of Mooncake's trace each endpoint gets every request at its time divided by the speed, with its lengths; what
    shared blocks in the trace begins with the same text.
    """
    rows = [json.loads(line) for line in MOONCAKE.read_text().splitlines()[:40]]
    async with fake_proxy({"metis": answering("42"), "sophia": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, "--trace", str(MOONCAKE), "-n", "40", "--speed", "8x", "--warmup", "0")
    assert done.code == 0, done.err
    metis, sophia = sent(proxy, "metis"), sent(proxy, "sophia")
    assert [one["text"] for one in metis] == [one["text"] for one in sophia]
    for requests in (metis, sophia):
        assert [one["id"] for one in requests] == list(range(1, 41))
        begun_us = requests[0]["due_us"]
        for one, row in zip(requests, rows, strict=True):
            assert one["due_us"] - begun_us == pytest.approx((row["timestamp"] - rows[0]["timestamp"]) / 8 * 1e3, abs=1)
            assert one["body"]["max_tokens"] == row["output_length"]
            assert "min_tokens" not in one["body"]
            assert len(one["text"].split(" ")) == row["input_length"]
    shared = 0
    for place, one in enumerate(rows):
        for other_place, other in enumerate(rows[:place]):
            blocks = next(
                (n for n, (a, b) in enumerate(zip(one["hash_ids"], other["hash_ids"], strict=False)) if a != b),
                min(len(one["hash_ids"]), len(other["hash_ids"])),
            )
            first, second = metis[place]["text"], metis[other_place]["text"]
            length = min(blocks * BLOCK, len(first), len(second)) - 1
            assert first[: max(0, length)] == second[: max(0, length)]
            assert first[: length + 200] != second[: length + 200]
            shared += blocks > 0
    assert shared > 100
    assert done.record["workload"] == "replay"
    assert done.record["arrivals"] == "as in mooncake_conversation_2000.jsonl at 8x"
    assert done.record["interleave"] == ["parallel"]
    assert "40 requests of" in done.out


def test_replay_is_the_workload_of_a_trace() -> None:
    """`--trace` alone is the workload `replay`; a load beside it takes the place of the trace's times."""
    assert options_of("--trace", "x").workload == "replay"
    assert options_of("--trace", "x").traced.timed
    assert not options_of("--trace", "x", "--concurrency", "8").traced.timed
    assert options_of("--trace", "x", "--window", "1m..90s", "--speed", "0.5").traced.window_s == (60.0, 90.0)
    assert options_of("--trace", "x", "--window", "..2h").traced.window_s == (0.0, 7200.0)


def test_a_workload_of_ones_own_names_a_trace(tmp_path: Path) -> None:
    """The options of a trace are keys of a workload's file too."""
    path = tmp_path / "peak.toml"
    path.write_text('trace = "x.csv"\nspeed = "4x"\nwindow = "1h..2h"\nexact-lengths = true\n')
    told = options_of("--workload", str(path)).traced
    assert (told.trace, told.speed, told.window_s, told.exact_lengths) == (Path("x.csv"), 4.0, (3600.0, 7200.0), True)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--workload", "replay"], "--workload replay needs a trace; give one with --trace FILE"),
        (["--speed", "2x"], "--speed is a trace's"),
        (["--window", "1..2"], "--window is a part of a trace"),
        (["--trace-endpoint", "a"], "--trace-endpoint is a part of a trace"),
        (["--trace", "x", "--speed", "0"], "'0' must be a factor above 0"),
        (["--trace", "x", "--speed=-1x"], "'-1x' must be"),
        (["--trace", "x", "--speed", "nan"], "'nan' must be"),
        (["--trace", "x", "--speed", "fast"], "'fast' must be"),
        (["--trace", "x", "--window", "5..3"], "'5..3' must be a time span"),
        (["--trace", "x", "--window", "5"], "'5' must be a time span"),
        (["--trace", "x", "--window", "1w..2w"], "must be a time span"),
        (["--trace", "x", "--prompts", "squad"], "--trace and --prompts exclude each other"),
        (["--trace", "x", "--interleave", "block"], "--interleave block would change the trace's times"),
        (["--trace", "x", "--interleave", "pair"], "--interleave pair would change the trace's times"),
        (["--trace", "x", "--rate", "5", "--speed", "2x"], "--speed is for the trace's own times"),
        (["--arrivals", "file:/nowhere"], "'/nowhere' can't be read: No such file or directory"),
        (["--rate", "5..0"], "'0' must be a number of requests a second above 0"),
        (["--rate", "1.."], "'' must be a number of requests a second above 0"),
    ],
)
def test_what_doesnt_fit_is_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that don't go together, and values that aren't any, end in one line and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        options_of(*argv)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said


def test_a_trace_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The command says in one line what it found and which shapes it knows; exit code 2."""
    path = tmp_path / "t.csv"
    path.write_text("when,prompt\n1,x\n")
    with_proxy = "--proxy", "http://127.0.0.1:9"
    assert "has columns when, prompt; known shapes: Azure's" in refusal("drive", "--trace", path, *with_proxy)
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n1,5,0\n")
    assert "has no requests to send (left out: 1 without an answer)" in refusal("drive", "--trace", path, *with_proxy)
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n1,5,1\n")
    assert "has no requests in it" in refusal("drive", "--trace", path, "--window", "5..9", *with_proxy)
    assert "no columns" in refusal("drive", "--trace", path, "--column", "x", *with_proxy)


async def test_a_load_in_place_of_the_traces_times(tmp_path: Path) -> None:
    """Under --concurrency a trace gives lengths and order alone; --exact-lengths asks for answers that long."""
    path = tmp_path / "t.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n9000,7,3\n0,5,1\n")
    async with fake_proxy({"metis": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, "--trace", str(path), "--concurrency", "1", "--exact-lengths")
    assert done.code == 0, done.err
    bodies = proxy.asked("metis")[1:]
    assert [len(body["messages"][0]["content"].split(" ")) for body in bodies] == [5, 7]
    assert [(body["max_tokens"], body["min_tokens"], body["ignore_eos"]) for body in bodies] == [
        (1, 1, True),
        (3, 3, True),
    ]
    assert "its lengths and order are sent, and not its times" in done.out


async def test_synthetic_prompts_are_the_seeds(tmp_path: Path) -> None:
    """Synthetic prompts have the lengths asked for; the same --seed gives the same, and a drawn seed is recorded."""
    texts = []
    async with fake_proxy({"metis": answering("42")}) as proxy:
        for number, seed in enumerate((["--seed", "5"], ["--seed", "5"], [])):
            spans = tmp_path / str(number)
            asked = ("--prompts", "synthetic:in=20..30,out=4", "-n", "3", "--warmup", "0")
            done = await drive(proxy, spans, *asked, *seed)
            assert done.code == 0, done.err
            texts.append([body["messages"][0]["content"] for body in proxy.asked("metis")[3 * number :]])
            assert done.record["prompt_set"]["source"].endswith(f",seed={done.record['seed']}")
    assert texts[0] == texts[1] != texts[2]
    assert {body["max_tokens"] for body in proxy.asked("metis")} == {4}
    assert all(20 <= len(text.split(" ")) <= 30 for each in texts for text in each)


async def test_arrivals_of_a_file(tmp_path: Path) -> None:
    """`--arrivals file:` is a load of its own: every endpoint's requests are due at the file's times."""
    series, prompts = tmp_path / "times", tmp_path / "p.jsonl"
    series.write_text("time_s\n0\n0.02\n0.3\n")
    prompts.write_text("".join(json.dumps({"id": str(number), "prompt": "x"}) + "\n" for number in range(4)))
    async with fake_proxy({"metis": answering("42"), "sophia": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, "--prompts", str(prompts), "--arrivals", f"file:{series}")
    assert done.code == 0, done.err
    for endpoint in ("metis", "sophia"):
        due = [one["due_us"] for one in sent(proxy, endpoint)]
        assert [at_us - due[0] for at_us in due] == pytest.approx([0, 20_000, 300_000, 450_000], abs=2)


async def test_a_dry_run_of_a_trace(tmp_path: Path) -> None:
    """The plan says how many requests, over which time, and how many tokens; nothing is sent."""
    path = tmp_path / "t.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,1000,30\n600,1000,70\n")
    async with fake_proxy({"metis": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, "--trace", str(path), "--speed", "10x", "--warmup", "0", "--dry-run")
        assert proxy.received == []
    assert done.code == 0, done.err
    assert "2 requests, over 60 s" in done.out
    assert "some 2,000 tokens of prompts, at most 100 of answers" in done.out


@pytest.mark.parametrize("what", ["synthetic", "trace", "chat"])
async def test_a_run_that_ended_early_is_resumed(tmp_path: Path, what: str) -> None:
    """Drawn texts, a trace's times and what was said in a conversation are the same again when a run goes on."""
    path, talks = tmp_path / "t.csv", tmp_path / "talks.jsonl"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"0.{n},9,3\n" for n in range(6)))
    said = [{"role": role, "content": f"{role} {n}"} for n in range(6) for role in ("user", "assistant")]
    talks.write_text(json.dumps({"id": "t", "messages": said}) + "\n")
    asked = {
        "synthetic": ["--prompts", "synthetic:in=20", "-n", "6"],
        "trace": ["--trace", str(path)],
        "chat": ["--prompts", str(talks), "--conversations"],
    }[what]
    async with fake_proxy({"metis": Breaking(3)}) as proxy:
        process = await start(proxy, tmp_path, *asked, "--warmup", "0")
        await until(lambda: len(proxy.received) == 4, "the request that hangs")
        process.kill()
        await process.wait()
        done = await drive(proxy, tmp_path, "--resume", "latest")
    assert done.code == 0, done.err
    bodies = proxy.asked("metis")
    texts = [json.dumps(body["messages"]) for body in bodies]
    assert len(set(texts)) == 6
    assert sorted(row["prompt_id"] for row in done.rows("answers")) == [
        *(f"t#{n}" if what == "chat" else str(n) for n in range(1, 7))
    ]
    if what == "chat":
        contents = [message["content"] for message in bodies[-1]["messages"]]
        assert contents == [each for n in range(6) for each in (f"user {n}", "42")][:-1]


class Breaking:
    """Answers, except one request, which hangs."""

    def __init__(self, answered: int) -> None:
        self._left = answered

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self._left -= 1
        if self._left == -1:
            await asyncio.sleep(600)
        return await answering("42")(request)
