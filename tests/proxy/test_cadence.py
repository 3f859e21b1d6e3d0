import random
import time
import timeit

import pytest

from dyno_proxy.exchange.cadence import MAX_CHUNKS, chunk_cadence

SEEDS = range(5)
SECOND_US = 1_000_000


def engine(tokens_per_s: float, count: int, seed: int, jitter: float = 0.2, step_tokens: int = 1) -> list[int]:
    """Chunk times of a steady engine, in µs.

    A step's length varies by the share `jitter`, and its tokens leave together.
    """
    chance = random.Random(seed)  # noqa: S311 - a simulation
    step_us = SECOND_US * step_tokens / tokens_per_s
    now_us = 200_000.0
    chunks: list[int] = []
    while len(chunks) < count:
        now_us += step_us * max(0.1, chance.gauss(1, jitter))
        chunks += [int(now_us) + 15 * i for i in range(step_tokens)]
    return chunks[:count]


def through_sophia(made_us: list[int], seed: int, poll_us: int = 25_000) -> list[int]:
    """Times at which ALCF's gateway passes chunks on, by its source.

    It stores chunks once 20 are there, or when one comes 0.5 s or more after the last were stored. It polls the store
    every 25 ms, and writes one chunk after the other.
    """
    chance = random.Random(seed)  # noqa: S311 - a simulation
    stored: list[tuple[float, int]] = []
    waiting, sent_us = 0, 0
    for at_us in made_us:
        waiting += 1
        if waiting == 20 or at_us - sent_us >= 500_000 or at_us == made_us[-1]:
            on_its_way_us = chance.uniform(5_000, 15_000)
            stored += [(at_us + on_its_way_us + 100 * i, i) for i in range(waiting)]
            waiting, sent_us = 0, at_us
    arrived: list[int] = []
    poll_at_us = 0.0
    while len(arrived) < len(stored):
        poll_at_us += poll_us + chance.uniform(500, 3_000)
        ready = sum(at_us <= poll_at_us for at_us, _ in stored) - len(arrived)
        write_us = poll_at_us + chance.uniform(0, 2_000)
        for _ in range(ready):
            write_us += chance.uniform(20, 200)
            arrived.append(int(write_us))
    return arrived


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tokens_per_s", [7, 10, 15, 25, 40, 60, 100, 150, 250, 500, 1000])
def test_a_gateways_rhythm_is_flagged(tokens_per_s: float, seed: int) -> None:
    """Whatever the speed of the engine behind it, the chunks have the gateway's rhythm."""
    made = engine(tokens_per_s, 400, seed)
    assert chunk_cadence(through_sophia(made, seed)) == "gateway"
    assert chunk_cadence(made) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("jitter", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("tokens_per_s", [10, 30, 60, 100, 300, 1000, 3000])
def test_an_engine_is_not_flagged(tokens_per_s: float, jitter: float, seed: int) -> None:
    """A steady engine isn't taken for a gateway, however fast it is and however much its steps vary."""
    assert chunk_cadence(engine(tokens_per_s, 400, seed, jitter)) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("step_tokens", [2, 3, 4, 5])
@pytest.mark.parametrize("steps_per_s", [10, 25, 50, 100, 400])
def test_speculation_is_not_flagged(steps_per_s: float, step_tokens: int, seed: int) -> None:
    """An engine that makes a few tokens per step sends them in small bursts. They aren't taken for a gateway's."""
    assert chunk_cadence(engine(steps_per_s * step_tokens, 400, seed, 0.1, step_tokens)) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tokens_per_s", [30, 100, 500, 3000])
def test_merged_reads_are_not_flagged(tokens_per_s: float, seed: int) -> None:
    """Reads that sometimes merge, and stalls of the network, aren't taken for a rhythm."""
    chance = random.Random(seed)  # noqa: S311 - a simulation
    chunks = engine(tokens_per_s, 400, seed)
    for at in range(0, 395, 5):
        if chance.random() < 0.3:
            chunks[at : at + 4] = [chunks[at + 3]] * 4
    for at in chance.sample(range(400), 5):
        chunks[at:] = [each + 40_000 for each in chunks[at:]]
    assert chunk_cadence(chunks) is None


def test_requests_between_arrivals_at_random_are_not_flagged() -> None:
    """Gaps of any length, as a busy engine has them, aren't taken for bursts."""
    for seed in range(50):
        chance = random.Random(seed)  # noqa: S311 - a simulation
        for mean_us in (3_000, 6_000, 10_000, 20_000):
            now_us, chunks = 0.0, []
            for _ in range(400):
                now_us += chance.expovariate(1 / mean_us)
                chunks.append(int(now_us))
            assert chunk_cadence(chunks) is None, (seed, mean_us)


@pytest.mark.parametrize(
    "offsets_us",
    [
        [],
        [200_000],
        [200_000] * 300,
        list(range(200_000, 206_000, 20)),
        through_sophia(engine(100, 30, 0), 0),
        [200_000] * 100 + [700_000] * 100,
    ],
    ids=["none", "one", "one read", "a single burst", "a short answer", "two bursts"],
)
def test_too_little_to_tell(offsets_us: list[int]) -> None:
    """One or two bursts, or a short answer, aren't taken for a rhythm."""
    assert chunk_cadence(offsets_us) is None


def test_its_cost_is_bounded() -> None:
    """An ordinary stream costs some µs. The longest stream costs no more than its first few thousand chunks."""
    ordinary, endless = tuple(engine(100, 200, 0)), tuple(range(0, 30_000_000_000, 30_000))
    each_us = (
        min(timeit.repeat(lambda: chunk_cadence(ordinary), number=100, repeat=20, timer=time.thread_time)) / 100 * 1e6
    )
    assert each_us < 100
    assert (
        min(timeit.repeat(lambda: chunk_cadence(endless), number=1, repeat=5, timer=time.thread_time)) * 1e6
        < 100 * MAX_CHUNKS / 200
    )
