import asyncio
import json
from collections import Counter
from dataclasses import replace

import aiohttp
import pytest

from dyno_driver.simulation.asked import Asked
from dyno_driver.simulation.profiles import PROFILES, Profile
from dyno_driver.simulation.reply import make_reply
from dyno_driver.simulation.server import Received, SimulatedEndpoint

PLAIN = replace(PROFILES["openai"], fixed_s=0.05, spread_s=0.0, per_token_s=0.001, output_tokens=50)
BODY = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": True})


async def ask_together(profile: Profile, at_once: int, *, of_which_leave: int = 0) -> list[Received]:
    """Ask so many requests together; the first `of_which_leave` leave after 0.3 s. Returns what was received."""
    received: list[Received] = []
    endpoint = SimulatedEndpoint(profile, log=received.append)
    url = await endpoint.start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(number: int) -> None:
                await asyncio.sleep(0.01 * number)  # so that they come in this order
                async with session.post(f"{url}/v1/chat/completions", data=BODY) as response:
                    if number < of_which_leave:
                        await asyncio.sleep(0.3)
                        response.close()
                    else:
                        await response.read()

            await asyncio.gather(*(one(number) for number in range(at_once)))
    finally:
        await endpoint.stop()
    return received


def most_at_once(received: list[Received]) -> int:
    """How many answers were being written at once."""
    changes = Counter[int]()
    for each in received:
        changes[each.begun_ns] += 1
        changes[each.writes[-1][0]] -= 1
    open_now = most = 0
    for moment in sorted(changes):
        open_now += changes[moment]
        most = max(most, open_now)
    return most


async def test_a_batch_has_so_many_places() -> None:
    """Of twelve requests at once four are answered; the others wait, and are answered in the order they came in."""
    received = await ask_together(replace(PLAIN, batch=4, fixed_s=0.3), 12)
    assert most_at_once(received) == 4
    begun = [each.begun_ns for each in sorted(received, key=lambda each: each.body_ns)]
    assert begun == sorted(begun)
    waits_s = sorted((each.begun_ns - each.body_ns) / 1e9 for each in received)
    assert waits_s[3] < 0.1 < waits_s[4]


async def test_without_a_batch_nobody_waits() -> None:
    """By default any number is answered at once."""
    assert most_at_once(await ask_together(replace(PLAIN, fixed_s=0.5), 12)) == 12


async def test_a_client_that_leaves_frees_its_place() -> None:
    """An answer that nobody waits for any more makes room for the next."""
    slow = replace(PLAIN, batch=1, per_token_s=0.02, output_tokens=50)
    first, second = await ask_together(slow, 2, of_which_leave=1)
    assert first.client_left
    assert second.begun_ns - first.begun_ns < 0.9e9  # the first answer would have taken 1 s


def reply_s(profile: Profile, others: int = 0, prompt: str = "Hello") -> tuple[float, float]:
    asked = Asked("m", prompt, True, None, True, True, False)
    reply = make_reply(asked, profile, seed=0, occurrence=0, created_unix_s=0.0, others=others)
    return reply.fixed_s, reply.per_token_s


def test_tokens_slow_down_with_each_other_answer() -> None:
    """A token takes the stated share longer for each further answer; the time to the first stays."""
    slow = replace(PLAIN, slowing=0.1)
    assert reply_s(slow) == reply_s(PLAIN)
    assert reply_s(slow, others=5)[0] == reply_s(PLAIN)[0]
    assert reply_s(slow, others=5)[1] == pytest.approx(1.5 * PLAIN.per_token_s)


def test_a_long_prompt_takes_its_time() -> None:
    """The time to the first token grows with the prompt's tokens."""
    slow = replace(PLAIN, per_prompt_token_s=0.001)
    short_s, long_s = (reply_s(slow, prompt="word " * words)[0] for words in (100, 1100))
    assert long_s - short_s == pytest.approx(1.3, rel=0.01)
