import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from dyno_driver.load.arrivals import POISSON
from dyno_driver.load.schedule import Load
from dyno_driver.options.command_line import ArgumentParser
from dyno_driver.options.run_options import RunOptions, parse_run, run_options
from dyno_driver.workloads.workload import names
from rigs.driven import drive
from rigs.fake_proxy import FakeProxy, Script, answering, fake_proxy


def options_of(*argv: str) -> RunOptions:
    return run_options(parse_run(ArgumentParser(prog="dyno drive"), list(argv)))


def prompt_file(folder: Path, prompts: int) -> str:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {number}."}) + "\n" for number in range(prompts)))
    return str(path)


class Slow:
    """Answers slowly, and sees how many are open."""

    def __init__(self, answer_s: float) -> None:
        self._answer_s, self._script = answer_s, answering("42")
        self.open = self.most = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self._answer_s)
            return await self._script(request)
        finally:
            self.open -= 1


def tags(proxy: FakeProxy, endpoint: str) -> list[dict[str, str]]:
    """The baggage of the endpoint's requests that count."""
    sent = [
        dict(member.split("=", 1) for member in received.headers["baggage"].split(","))
        for received in proxy.received
        if received.endpoint == endpoint
    ]
    return [each for each in sent if each["dyno.warmup"] == "false"]


def test_each_shipped_workload_is_valid() -> None:
    """Every workload that ships sets options that the flags would take."""
    assert names() == ["chat", "long-context", "offline", "published", "replay", "single", "steady", "sweep"]
    for name in names():
        assert options_of("--workload", name).workload == name


def test_the_published_method() -> None:
    """`published` is the homework's method: the first 10 of SQuAD, unstreamed, one system wholly after the other."""
    published = options_of("--workload", "published")
    assert (published.prompts, published.count, published.stream, published.warmup) == ("squad", 10, False, 0)
    assert (published.temperature, published.max_tokens, published.repeat) == (0.7, 512, 1)
    assert (published.shape.interleave, published.shape.loads, published.shape.pause_s) == ("whole", (Load(1),), 5.0)


def test_the_command_line_overrides_the_file() -> None:
    """A flag wins over the workload's key, and a load that is given takes the place of the file's."""
    sweep = options_of("--workload", "sweep")
    assert [load.concurrency for load in sweep.shape.loads] == [1, 8, 32, 64, 128]
    assert options_of("--workload", "sweep", "-n", "5").count == 5
    assert options_of("--workload", "sweep", "--rate", "2,5").shape.loads == (Load(None, 2.0), Load(None, 5.0))
    assert options_of("--workload", "published", "--concurrency", "3").shape.loads == (Load(3),)
    assert options_of("--workload", "published", "--stream").stream is True


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """A workload's file sets what its flags would; its name is the workload's."""
    path = tmp_path / "bursts.toml"
    path.write_text('about = "x"\nrate = [0.5, 2]\narrivals = "gamma:2"\nn = 7\nstream = false\nseed = 3\n')
    own = options_of("--workload", str(path))
    assert (own.workload, own.count, own.stream, own.seed) == ("bursts", 7, False, 3)
    assert own.shape.loads == (Load(None, 0.5), Load(None, 2.0))
    assert own.shape.arrivals.variation == 2
    assert options_of().shape.arrivals == POISSON


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rate = 0", "'rate': '0' must be a number of requests a second above 0"),
        ("rate = -1", "'rate': '-1' must be"),
        ("rate = nan", "'rate': 'nan' must be"),
        ("rate = []", "'rate': '' must be"),
        ("concurrency = 0", "'concurrency': '0' must be a whole number, 1 or more"),
        ("concurrency = [1, true]", "'concurrency': 'true' must be a whole number"),
        ("concurrency = 1.5", "'concurrency': '1.5' must be a whole number"),
        ("rats = 1", "unknown key 'rats'; did you mean 'rate'? keys are"),
        ("workload = 'sweep'", "unknown key 'workload'"),
        ("[load]\nrate = 1", "unknown key 'load'"),
        ("stream = 1", "'stream' must be true or false"),
        ("interleave = 'pairs'", "'interleave': 'pairs' must be one of pair, block, parallel, whole"),
        ("arrivals = 'uniform'", "'arrivals': 'uniform' must be poisson, constant, or gamma:CV"),
        ("about = 3", "'about' must be a text"),
        ("n = [", "not TOML"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a workload's file has wrong is said in one line that names the file and the key; exit code 2."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        options_of("--workload", str(path))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"dyno drive: --workload {path}: ")
    assert says in said


async def test_a_load_is_held_and_told(tmp_path: Path) -> None:
    """Under --concurrency so many are open at each endpoint, every request says so, and the record says how."""
    metis, sophia = Slow(0.02), Slow(0.02)
    async with fake_proxy({"metis": metis, "sophia": sophia}) as proxy:
        done = await drive(proxy, tmp_path, "--prompts", prompt_file(tmp_path, 30), "--concurrency", "5")
    assert done.code == 0, done.err
    assert (metis.most, sophia.most) == (5, 5)
    for name in ("metis", "sophia"):
        sent = tags(proxy, name)
        assert len(sent) == len({each["dyno.prompt.id"] for each in sent}) == 30
        assert {each["dyno.load.concurrency"] for each in sent} == {"5"}
    assert (done.record["loads"], done.record["interleave"]) == (["5 at once"], ["block"])
    assert "5 requests at once" in done.record["method"]
    assert "60 requests to metis, sophia" in done.out


async def test_each_load_has_prompts_of_its_own(tmp_path: Path) -> None:
    """Where there are enough prompts no load asks what an earlier one asked, so that no cache answers."""
    async with fake_proxy({"metis": answering("42")}) as proxy:
        prompts = prompt_file(tmp_path, 30)
        done = await drive(proxy, tmp_path, "--prompts", prompts, "-n", "10", "--concurrency", "1,2,4")
    assert done.code == 0, done.err
    asked = Counter(each["dyno.prompt.id"] for each in tags(proxy, "metis"))
    assert len(asked) == 30
    assert set(asked.values()) == {1}


async def test_an_open_loop_says_when_each_was_due(tmp_path: Path) -> None:
    """Under --rate both endpoints' requests are due at the same times, and each says how late it left."""
    async with fake_proxy({"metis": answering("42"), "sophia": answering("42")}) as proxy:
        prompts = prompt_file(tmp_path, 20)
        done = await drive(proxy, tmp_path, "--prompts", prompts, "--rate", "50", "--seed", "1")
    assert done.code == 0, done.err
    first, second = (
        sorted((each["dyno.prompt.id"], int(each["dyno.due_at_unix_us"])) for each in tags(proxy, name))
        for name in ("metis", "sophia")
    )
    assert len(first) == 20
    apart_us = {due_us - others_us for (_, due_us), (_, others_us) in zip(first, second, strict=True)}
    assert max(apart_us) - min(apart_us) <= 1  # both lanes begin within a moment of each other
    assert all(float(each["dyno.send_lag_s"]) >= 0 for each in tags(proxy, "metis"))
    assert "after they were due (median)" in done.out
    assert (done.record["arrivals"], done.record["seed"]) == ("poisson", 1)


async def test_a_dry_run_sends_nothing(tmp_path: Path) -> None:
    """--dry-run says what would be sent and what it may cost; no request is sent and no file is made."""
    about = {"metis": {"price": {"input_per_million": 1.0, "output_per_million": 2.0}}}
    async with fake_proxy({"metis": answering("42")}, about) as proxy:
        prompts = prompt_file(tmp_path, 40)
        done = await drive(proxy, tmp_path, "--prompts", prompts, "-n", "20", "--concurrency", "1,4", "--dry-run")
    assert done.code == 0, done.err
    assert proxy.received == []
    assert not (tmp_path / "runs").exists()
    assert "nothing is sent" in done.out
    assert "4 at once: 20 requests" in done.out
    assert "metis: 45 requests" in done.out
    assert "at most 23,040 of answers, at most 0.05" in done.out


def failing(after: int) -> Script:
    """Answers so many requests, then fails."""
    answered = 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal answered
        answered += 1
        if answered > after:
            return web.json_response({"error": {"message": "out of memory"}}, status=500)
        return await answering("42")(request)

    return script


async def test_failures_under_load_are_kept(tmp_path: Path) -> None:
    """A failure ends no load: all requests are sent, and the exit code says that some failed."""
    async with fake_proxy({"metis": failing(15)}) as proxy:
        done = await drive(proxy, tmp_path, "--prompts", prompt_file(tmp_path, 30), "--concurrency", "3")
    assert done.code == 1
    assert len(tags(proxy, "metis")) == 30
    assert "of 30 requests failed; the first: HTTP 500: out of memory" in done.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--rate", "5", "--interleave", "pair"), "--interleave pair sends one request at a time"),
        (("--concurrency", "4", "--interleave", "pair"), "use parallel or block under other loads"),
        (("--rate", "0"), "'0' must be a number of requests a second above 0"),
        (("--concurrency", "8,x"), "'x' must be a whole number, 1 or more"),
        (("--workload", "swep"), "no workload 'swep'; did you mean 'sweep'?"),
        (("--workload", "none.toml"), "No such file or directory; give the path of a TOML file"),
        (("--pause", "-1"), "'-1' must be a number of seconds, 0 or more"),
    ],
)
async def test_wrong_loads_are_one_line(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """A load that can't be held is refused before anything is sent."""
    async with fake_proxy({"metis": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, *flags)
    assert (done.code, done.err.count("\n"), proxy.received) == (2, 1, [])
    assert says in done.err
