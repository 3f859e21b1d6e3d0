"""The simulator's draws and texts: pure, reproducible, and of the stated means."""

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.simulation.answer import best_sentence, count_prompt_tokens, split_tokens, write_answer
from dyno_driver.simulation.asked import Asked, RequestError, read_request
from dyno_driver.simulation.draws import (
    LONGEST_TOKENS,
    SHORTEST_TOKENS,
    draw_fixed_s,
    draw_output_tokens,
    random_stream,
)
from dyno_driver.simulation.profiles import PROFILES
from dyno_driver.simulation.reply import make_reply, plan_reply

PROMPT = (
    "Context: The Broncos won the game in February. The stadium stands in Santa Clara. Oranges are round."
    "\n\nQuestion: Where does the stadium stand?\n\nAnswer:"
)


def ask(prompt: str = PROMPT, max_tokens: int | None = None, *, stream: bool = True, chat: bool = True) -> Asked:
    return Asked("model", prompt, chat, max_tokens, stream, include_usage=True, continuous_usage=False)


@pytest.mark.parametrize(
    ("name", "fixed_s", "per_token_s", "std_s"), [("metis", 4.8, 0.0027, 0.31), ("sophia", 1.06, 0.0068, 0.78)]
)
def test_latencies_have_the_assumed_mean_and_spread(
    name: str, fixed_s: float, per_token_s: float, std_s: float
) -> None:
    """Over many prompts, latency is fixed + per token × tokens on average, with about the published deviation."""
    profile = PROFILES[name]
    replies = [make_reply(ask(f"prompt {i}"), profile, seed=1, occurrence=0, created_unix_s=0.0) for i in range(4000)]
    latencies = [reply.usage.latency_s for reply in replies]
    tokens = statistics.fmean(reply.usage.output_tokens for reply in replies)
    assert statistics.fmean(latencies) == pytest.approx(fixed_s + per_token_s * tokens, abs=0.04)
    assert statistics.stdev(latencies) == pytest.approx(std_s, rel=0.06)
    assert min(reply.fixed_s for reply in replies) > 0.25 * fixed_s


def test_lengths_vary_by_prompt_and_hardly_between_endpoints() -> None:
    """Lengths keep their bounds and their mean, and both endpoints answer one prompt at nearly the same length."""
    prompts = [f"prompt {i}" for i in range(2000)]
    metis = [draw_output_tokens(3, "metis", prompt, 0) for prompt in prompts]
    sophia = [draw_output_tokens(3, "sophia", prompt, 0) for prompt in prompts]
    assert 78 < statistics.fmean(metis) < 82
    assert statistics.stdev(metis) > 15
    assert all(SHORTEST_TOKENS <= length <= LONGEST_TOKENS for length in metis + sophia)
    assert max(abs(a - b) for a, b in zip(metis, sophia, strict=True)) < 25
    assert statistics.correlation(metis, sophia) > 0.9


def test_the_same_request_gives_the_same_reply_in_any_order() -> None:
    """A reply depends on seed, endpoint, prompt and occurrence, on nothing that was asked before."""
    profile = PROFILES["sophia"]

    def reply(prompt: str, occurrence: int = 0, seed: int = 5) -> object:
        return make_reply(ask(prompt), profile, seed=seed, occurrence=occurrence, created_unix_s=0.0)

    there = [reply(f"prompt {i}") for i in range(50)]
    back = [reply(f"prompt {i}") for i in reversed(range(50))]
    assert there == back[::-1]
    assert reply("prompt 1") != reply("prompt 1", occurrence=1)
    assert reply("prompt 1") != reply("prompt 1", seed=6)


@given(st.floats(0.01, 100), st.floats(0.001, 10), st.integers(0, 1000))
def test_the_fixed_part_is_always_positive(fixed_s: float, spread_s: float, seed: int) -> None:
    """However wide the spread is, a drawn time is never negative."""
    assert draw_fixed_s(fixed_s, spread_s, random_stream(seed)) >= 0.3 * fixed_s


def test_without_spread_the_fixed_part_is_exact() -> None:
    """A spread of 0 means no draw at all."""
    assert draw_fixed_s(2.5, 0.0, random_stream(1)) == 2.5


@pytest.mark.parametrize(
    ("limit", "tokens", "finish"),
    [(None, 80, "stop"), (80, 80, "stop"), (79, 79, "length"), (20, 20, "length"), (1, 1, "length")],
)
def test_max_tokens_is_honoured(limit: int | None, tokens: int, finish: str) -> None:
    """The limit counts reasoning too, which comes first; a cut answer says so."""
    profile = replace(PROFILES["metis"], output_tokens=80)
    reply = make_reply(ask(max_tokens=limit), profile, seed=0, occurrence=0, created_unix_s=0.0)
    assert len(reply.reasoning) + len(reply.answer) == reply.usage.output_tokens == tokens
    assert reply.finish_reason == finish
    assert len(reply.reasoning) == min(32, tokens)


def test_a_stream_sends_one_token_a_write_on_an_absolute_schedule() -> None:
    """Token i is due at fixed + i × per token; the end is due with the last."""
    profile = PROFILES["sophia"]
    reply = make_reply(ask(), profile, seed=2, occurrence=0, created_unix_s=0.0)
    plan = plan_reply(reply, ask(), profile)
    tokens = reply.usage.output_tokens
    assert [send.at_s for send in plan.sends[:-1]] == pytest.approx(
        [reply.fixed_s + i * reply.per_token_s for i in range(1, tokens + 1)]
    )
    assert plan.sends[-1].at_s == plan.end_at_s == pytest.approx(reply.usage.latency_s)
    assert plan.head_at_s == 0.0


def test_the_answer_is_the_sentence_nearest_to_the_question() -> None:
    """The answer comes from the passage, says that it is simulated, and has exactly the given length."""
    assert best_sentence(PROMPT) == "The stadium stands in Santa Clara."
    assert best_sentence("no passage here") is None
    for tokens in (1, 5, 40, 150):
        answer = write_answer(PROMPT, tokens)
        assert len(answer) == tokens
        assert "".join(answer).startswith("(simul")
    assert "Santa Clara" in "".join(write_answer(PROMPT, 40))


@given(st.text())
def test_tokens_join_to_their_text(text: str) -> None:
    """Cutting into tokens loses nothing but trailing space."""
    assert "".join(split_tokens(text)) == text.rstrip() or not text.strip()


def test_sophia_counts_two_prompt_tokens_more() -> None:
    """The endpoints' templates differ, as the published data shows."""
    counts = {name: count_prompt_tokens(PROMPT, PROFILES[name].template_tokens) for name in ("metis", "sophia")}
    assert counts["sophia"] == counts["metis"] + 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "messages"),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [{"content": "x"}]}', "role"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "content"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": true}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 2}', "n must be 1"),
    ],
)
def test_a_wrong_body_is_named(body: bytes, message: str) -> None:
    """What a server would refuse is refused, and the message names the field."""
    with pytest.raises(RequestError, match=message):
        read_request(body, chat=True)


def test_a_prompt_may_come_in_parts_or_as_plain_text() -> None:
    """Content parts are joined; completions take a string or a list of one."""
    parts = (
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}'
    )
    assert read_request(parts, chat=True).prompt == "ab"
    assert read_request(b'{"prompt": ["x"]}', chat=False).prompt == "x"
    with pytest.raises(RequestError, match="prompt"):
        read_request(b'{"prompt": [1, 2]}', chat=False)
