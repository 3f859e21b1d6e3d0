import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dyno_driver.errors import WrongUseError
from dyno_driver.options.command_line import ArgumentParser
from dyno_driver.options.prompting import Prompting, depths, token_lengths
from dyno_driver.options.run_options import parse_run, run_options
from dyno_driver.prompts.long_context import WITHIN
from dyno_driver.prompts.prompt import Prompt
from dyno_driver.prompts.prompt_set import PromptSet, load_prompts
from dyno_driver.prompts.tokens import ESTIMATE, Tokenizer, load_tokenizer
from rigs.fake_proxy import answering, fake_proxy
from rigs.shared_data import SHARED, needs_shared

from .test_drive import drive
from .test_tokens import words


def long(*lengths: int, count: int | None = None, seed: int = 7, **how: Any) -> PromptSet:
    return load_prompts("science", count, how=Prompting(context_tokens=lengths, **how), seed=seed)


def document(prompt: Prompt) -> str:
    return prompt.prompt.partition("\n\nQuestion: ")[0]


def place_of_answer(prompt: Prompt) -> float:
    [answer] = prompt.reference_answers
    assert prompt.prompt.count(answer) == 1
    return prompt.prompt.index(answer) / len(prompt.prompt)


@pytest.mark.parametrize("tokens", [200, 1000, 4000, 16_000, 128_000])
@pytest.mark.parametrize("counted", [False, True])
def test_prompts_have_their_length(tmp_path: Path, tokens: int, counted: bool) -> None:
    """A prompt has its tokens, within a hundredth, by the estimate and by a tokenizer; it is never longer."""
    path = words(tmp_path) if counted else None
    tokenizer: Tokenizer = load_tokenizer(path) if path is not None else ESTIMATE
    [prompt] = long(tokens, count=1, tokenizer=path).prompts
    assert tokens * (1 - WITHIN) - 2 <= tokenizer.count(prompt.prompt) <= tokens
    assert prompt.tokens == (tokenizer.count(prompt.prompt) if counted else None)


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_the_answer_stands_at_its_depth(depth: float) -> None:
    """The sentence that answers stands once, as deep as asked, between two passages; its depth is in the domain."""
    [prompt] = long(16_000, count=1, depths=(depth,)).prompts
    assert abs(place_of_answer(prompt) - depth) < 0.02
    assert prompt.domain == f"16k tokens, depth {depth:.0%}"
    assert re.search(r"\n\nThe access code of the archive \w+ is \d{7}\.\n\n", prompt.prompt)
    assert prompt.question is not None
    assert prompt.prompt.endswith(f"\n\nQuestion: {prompt.question}\n\nAnswer:")


def test_the_seed_decides() -> None:
    """The same seed gives the same prompts, another one others; without one it is drawn and said."""
    assert long(1000, 4000).prompts == long(1000, 4000).prompts
    assert long(1000).prompts[0].prompt != long(1000, seed=8).prompts[0].prompt
    drawn = [load_prompts("science", 1, how=Prompting(context_tokens=(1000,))) for _ in range(2)]
    assert drawn[0].prompts != drawn[1].prompts
    seed = re.search(r"made with seed (\d+)", drawn[0].source)
    assert seed is not None
    assert long(1000, count=1, seed=int(seed[1])).prompts == drawn[0].prompts


def test_lengths_and_depths_in_turn() -> None:
    """Lengths come in turn, then depths; each length has as many prompts as another."""
    found = long(1000, 4000, count=8, depths=(0.0, 1.0)).prompts
    assert [prompt.prompt_id for prompt in found] == [
        *("1k-0-1", "4k-0-1", "1k-100-2", "4k-100-2", "1k-0-3", "4k-0-3", "1k-100-4", "4k-100-4")
    ]
    assert len({prompt.reference_answers for prompt in found}) == 8


def test_each_prompt_begins_anew() -> None:
    """No two prompts share more than the words with which all begin, so no cache of prefixes can answer."""
    begins = {prompt.prompt.removeprefix("Context: Reading ")[:8] for prompt in long(1000, 4000, count=10).prompts}
    assert len(begins) == 10


def test_a_shared_prefix_on_purpose() -> None:
    """Under --shared-prefix prompts of one length differ only in the question, and each still has its answer."""
    found = long(1000, 4000, count=6, depths=(0.2, 0.8), shared_prefix=True).prompts
    for length in ("1k", "4k"):
        own = [prompt for prompt in found if prompt.prompt_id.startswith(f"{length}-")]
        assert len({document(prompt) for prompt in own}) == 1
        assert len({prompt.question for prompt in own}) == 3
    assert [round(place_of_answer(prompt), 1) for prompt in found if prompt.prompt_id.startswith("4k")] == [
        0.2,
        0.8,
        0.2,
    ]
    assert document(found[0]) != document(found[1])


@pytest.mark.parametrize("text", ["", "4q", "0", "1k,", "50", "1e3", "-1k", "99m"])
def test_lengths_that_wont_do(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A length that is no number of tokens is one line and exit code 2."""
    with pytest.raises(SystemExit) as raised:
        parse_run(ArgumentParser(prog="dyno drive"), [f"--context-tokens={text}"], lambda _given: [])
    assert raised.value.code == 2
    assert "must be a number of tokens from 100 to 10,000,000" in capsys.readouterr().err


def test_lengths_and_depths_are_read() -> None:
    """A k is a thousand tokens; depths are percentages."""
    assert token_lengths("1k,1.5K,128k,2m,300") == (1000, 1500, 128_000, 2_000_000, 300)
    assert depths("0,50%,100") == (0.0, 0.5, 1.0)
    parsed = parse_run(ArgumentParser(prog="dyno drive"), ["--workload", "long-context"], lambda _given: [])
    asked = run_options(parsed)
    assert asked.prompting.context_tokens == (1000, 4000, 16_000, 64_000, 128_000)
    assert (asked.prompting.depths, asked.prompts) == ((0.5,), "squad")


def test_a_set_without_passages(tmp_path: Path) -> None:
    """A set that has no passages is refused with those that have; so is a length without room for one."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n', encoding="utf-8")
    with pytest.raises(WrongUseError, match="has no passages; use squad, science"):
        load_prompts(str(path), 1, how=Prompting(context_tokens=(1000,)))


@needs_shared
def test_squads_own_passages() -> None:
    """A file with passages gives them to the long prompts, each once before any comes again."""
    path = SHARED / "data" / "squad_dev_5_articles.json"
    [prompt] = load_prompts(str(path), 1, how=Prompting(context_tokens=(16_000,)), seed=1).prompts
    passages = document(prompt).split("\n\n")
    assert len(passages) > 50
    assert len(set(passages)) == len(passages)


async def test_what_a_context_cant_hold_is_said_by_row(tmp_path: Path) -> None:
    """An endpoint whose context is too small refuses the long ones: those rows say so, and the run goes on."""
    answer = answering("42")

    async def small(request: web.Request) -> web.StreamResponse:
        if len(await request.read()) > 10_000:
            error = {"message": "maximum context length is 2048 tokens", "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=400)
        return await answer(request)

    options = ("--prompts", "science", "--context-tokens", "1k,4k", "-n", "4", "--seed", "3")
    async with fake_proxy({"small": small, "large": answer}) as proxy:
        done = await drive(proxy, tmp_path / "spans", *options)
    assert done.code == 1
    rows = [row for row in done.rows("answers") if not row["warmup"]]
    failed = {(row["endpoint"], row["prompt_id"]) for row in rows if row["error"]}
    assert failed == {("small", "4k-50-1"), ("small", "4k-50-2")}
    assert len(rows) == 8
    assert "small: 2 of 4 requests failed; the first: HTTP 400: maximum context length is 2048 tokens" in done.out
    assert {row["domain"] for row in done.rows("prompts")} == {"1k tokens, depth 50%", "4k tokens, depth 50%"}
    assert "made with seed 3" in done.record["prompt_set"]["source"]


async def test_a_drawn_seed_is_the_runs(tmp_path: Path) -> None:
    """Without --seed the texts' seed is drawn, and run.json has it, so that the run can be resumed and repeated."""
    async with fake_proxy({"a": answering("42")}) as proxy:
        options = ("--prompts", "science", "--context-tokens", "1k", "-n", "1")
        done = await drive(proxy, tmp_path / "spans", *options)
    assert done.code == 0, done.err
    seed = done.record["seed"]
    assert f"made with seed {seed}" in done.record["prompt_set"]["source"]
    assert proxy.asked("a")[1]["messages"][0]["content"] == long(1000, count=1, seed=seed).prompts[0].prompt


async def test_the_driver_is_punctual_with_long_prompts(tmp_path: Path) -> None:
    """Half a megabyte a prompt delays no request: at 128k tokens the median of the send lag stays small."""
    options = ("--prompts", "science", "--context-tokens", "128k", "-n", "20", "--rate", "20", "--arrivals", "constant")
    async with fake_proxy({"a": answering("42")}) as proxy:
        done = await asyncio.wait_for(drive(proxy, tmp_path / "spans", *options, "--warmup", "0"), 100)
    assert done.code == 0, done.err
    assert all(len(json.dumps(body)) > 450_000 for body in proxy.asked("a")[3:10])
    lags_s = sorted(
        float(member.split("=")[1])
        for received in proxy.received
        for member in received.headers["baggage"].split(",")
        if member.startswith("dyno.send_lag_s")
    )
    assert lags_s[len(lags_s) // 2] < 0.02
