import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dyno_driver.load.chains import chained
from dyno_driver.load.schedule import Asked, Load, Shape, plan
from dyno_driver.prompts.conversations import added, conversations
from dyno_driver.prompts.prompt import Prompt
from rigs.driven import drive
from rigs.dyno_command import refusal
from rigs.fake_proxy import FakeProxy, Received, answering, fake_proxy, saying

U, A, T = ({"role": role, "content": role[0]} for role in ("user", "assistant", "tool"))
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}


def talks(folder: Path, number: int, turns: int) -> str:
    path = folder / "talks.jsonl"
    lines = []
    for talk in range(number):
        messages: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
        for turn in range(1, turns + 1):
            messages += [{"role": "user", "content": f"{talk}: question {turn}"}]
            messages += [{"role": "assistant", "content": f"{talk}: recorded {turn}"}] if turn < turns else []
        lines.append(json.dumps({"id": f"t{talk}", "messages": messages}))
    path.write_text("\n".join(lines))
    return str(path)


def tags(received: Received) -> dict[str, str]:
    return dict(member.split("=", 1) for member in received.headers["baggage"].split(","))


def counted(proxy: FakeProxy, endpoint: str) -> list[Received]:
    return [each for each in proxy.received if each.endpoint == endpoint and tags(each)["dyno.warmup"] == "false"]


@pytest.mark.parametrize(
    ("messages", "ends"),
    [
        ([U], [1]),
        ([U, A], [1]),
        ([U, A, U], [1, 3]),
        ([U, A, U, A], [1, 3]),
        ([U, CALL, T, A, U], [1, 3, 5]),
        ([U, U, A, A, U], [2, 5]),
        ([{"role": "system", "content": "s"}, A, U, A, U], [3, 5]),
        ([{"role": "system", "content": "s"}, U], [2]),
    ],
)
def test_a_turn_ends_where_a_model_answers(messages: list[dict[str, Any]], ends: list[int]) -> None:
    """A conversation has a turn for each place where a model answers a user or a tool's result."""
    told = conversations([Prompt("x", "", conversation=tuple(messages))], "here")
    assert [len(turn.conversation) for turn in told] == ends
    assert [turn.prompt_id for turn in told] == [f"x#{number}" for number in range(1, len(ends) + 1)]


def test_the_endpoints_answer_takes_the_recorded_ones_place() -> None:
    """A recorded answer gives way to the endpoint's own, except a call whose recorded result follows."""
    own = {"role": "assistant", "content": "own"}
    assert added([U], [U, A, U], own) == [own, U]
    assert added([U], [U, A, A, U], own) == [own, U]
    assert added([U], [U, CALL, T], own) == [CALL, T]
    assert added([U], [U, U], own) == [own, U]


@pytest.mark.parametrize("load", [Load(1), Load(4)])
def test_a_conversation_is_a_chain(load: Load) -> None:
    """The turns of a conversation follow each other, each once at each endpoint; what fills a load is a first one."""
    phases = plan(Shape((load,)), Asked(["a", "b"], [list("xyz")], 2, 0, "alternate", 1))
    chains = {name: [f"{name}#{turn}" for turn in (1, 2, 3)] for name in "xyz"}
    found = chained(phases, chains)
    asked = Counter(turn for phase in found for turn in phase.turns())
    assert len(asked) == 2 * 2 * 3 * 3
    assert set(asked.values()) == {1}
    for phase in found:
        for lane in phase.lanes:
            for group in lane.groups:
                for earlier, later in pairwise(group):
                    if (earlier.endpoint, earlier.chain) == (later.endpoint, later.chain):
                        assert int(later.prompt_id[-1]) == int(earlier.prompt_id[-1]) + 1
            assert all(turn.prompt_id.endswith(("#1", "warm-up")) for turn in (*lane.ramp, *lane.drain))


@pytest.mark.parametrize("recorded", [False, True])
async def test_each_turn_has_all_that_was_said(tmp_path: Path, recorded: bool) -> None:
    """A turn goes after the answer to the one before, with the endpoint's own answers, or with the recorded ones."""
    about = {"metis": {"session_header": "X-Session"}}
    async with fake_proxy({"metis": answering("one"), "sophia": answering("two")}, about) as proxy:
        options = ["--conversations", "--concurrency", "2", *(["--recorded-turns"] if recorded else [])]
        done = await drive(proxy, tmp_path, "--prompts", talks(tmp_path, 4, 3), *options)
    assert done.code == 0, done.err
    assert "4 conversations of" in done.out
    for endpoint, answer in (("metis", "one"), ("sophia", "two")):
        received = counted(proxy, endpoint)
        assert len(received) == 12
        sessions: dict[str, set[str]] = {}
        seen: Counter[str] = Counter()
        for each in received:
            talk, _, turn = tags(each)["dyno.prompt.id"].replace("%23", "#").partition("#")
            seen[talk] += 1
            assert seen[talk] == int(turn)  # in order
            expected = ["Be brief."]
            for number in range(1, int(turn) + 1):
                earlier = f"{talk[1:]}: recorded {number - 1}" if recorded else answer
                expected += [*([earlier] if number > 1 else []), f"{talk[1:]}: question {number}"]
            assert [message["content"] for message in each.body["messages"]] == expected
            sessions.setdefault(talk, set()).add(each.headers.get("X-Session", "none"))
        if endpoint == "metis":
            assert all(len(ids) == 1 for ids in sessions.values())
            assert len(set.union(*sessions.values())) == 4
    rows = {row["prompt_id"]: (row["conversation"], row["turn"]) for row in done.rows("prompts")}
    assert rows["t2#3"] == ("t2", 3)


async def test_a_failed_turn_ends_its_conversation(tmp_path: Path) -> None:
    """After a failure the rest of that conversation isn't sent to that endpoint, and is counted; others go on."""

    async def failing(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        bad = body["messages"][-1]["content"] == "1: question 2"
        return await (saying(400, {"error": {"message": "no"}}) if bad else answering("x"))(request)

    async with fake_proxy({"metis": failing, "sophia": answering("y")}) as proxy:
        done = await drive(proxy, tmp_path, "--prompts", talks(tmp_path, 3, 4), "--conversations")
    assert done.code == 1
    assert len(counted(proxy, "metis")) == 10
    assert len(counted(proxy, "sophia")) == 12
    assert done.record["not_sent"] == {"metis": 2}
    assert "metis: 2 turns not sent, since an earlier turn of the conversation failed." in done.out


async def test_questions_are_conversations_by_their_subject(tmp_path: Path) -> None:
    """The set that ships has no turns: its questions on one subject follow each other, the passage stands once."""
    async with fake_proxy({"metis": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, "--workload", "chat", "--concurrency", "1", "-n", "10", "--think", "0.01")
    assert done.code == 0, done.err
    received = counted(proxy, "metis")
    assert len(received) == 10
    second = next(each.body["messages"] for each in received if len(each.body["messages"]) == 3)
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[0]["content"].startswith("Context: ")
    assert done.record["workload"] == "chat"


def test_what_doesnt_fit_is_refused(tmp_path: Path) -> None:
    """Options of conversations that can't be used together, and sets without any, are one line."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "x"}\n')
    proxy = ("--proxy", "http://127.0.0.1:9")
    assert "add --conversations" in refusal("drive", "--think", "2", *proxy)
    assert "leave out --rate" in refusal("drive", "--conversations", "--rate", "2", *proxy)
    assert "exclude each other" in refusal("drive", "--conversations", "--trace", path, *proxy)
    assert "'5..2' must be" in refusal("drive", "--conversations", "--think", "5..2", *proxy)
    assert "has no conversations" in refusal("drive", "--conversations", "--prompts", path, *proxy)
