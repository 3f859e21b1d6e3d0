"""`dyno report --claims`: the right verdict where a claim is true, where it is false, and where nobody knows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.errors import InputError
from dyno_analysis.report.claims.roles import Roles, roles
from dyno_analysis.spans.folder import connect
from dyno_analysis.spans.sql_text import sql_text
from rigs.claim_runs import NAMES, Runs, Truth, every_workload, long_context, offline, single, steady, sweep
from rigs.dyno_command import cells, dyno, refusal
from rigs.sql_rows import rows_of
from rigs.stored_spans import pair, write
from rigs.terminal import in_a_terminal

# True of metis: faster alone, from 100 at once and on very long context, steadier, cheaper. Of sophia: none.
FOR_METIS = Truth(at_64=0.5, batch=0.5)
FOR_SOPHIA = Truth(
    alone=2.0,
    at_64=2.0,
    at_128=2.0,
    batch=2.0,
    very_long=2.0,
    spread_s=(0.4, 0.1),
    price=(2.0, 1.0),
    power_w=(1000.0, 500.0),
    right=(0.5, 1.0),
)
OF_METIS = ("single-metis", "above-100-metis", "batch-metis", "long-context", "steadier", "money", "energy")
OF_SOPHIA = ("single-sophia", "above-32-sophia", "batch-sophia")


def verdicts(folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """The claims of claims.json by their keys."""
    done = dyno("report", "--claims", "--spans", folder, "--out", folder / "out", *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "out" / "claims.json").read_text(encoding="utf-8"))
    return {claim["key"]: claim for claim in found["claims"]}


def rulings(folder: Path, *arguments: str) -> dict[str, str]:
    return {key: claim["verdict"] for key, claim in verdicts(folder, *arguments).items()}


@pytest.mark.parametrize(("truth", "metis"), [(FOR_METIS, True), (FOR_SOPHIA, False)])
def test_each_claim_true_and_false(tmp_path: Path, truth: Truth, metis: bool) -> None:
    """Every decidable claim is supported where it is true and contradicted where it is false; none is undecided."""
    found = rulings(every_workload(tmp_path, truth))
    words = {True: "supported", False: "contradicted"}
    assert {key: found[key] for key in OF_METIS} == dict.fromkeys(OF_METIS, words[metis])
    assert {key: found[key] for key in OF_SOPHIA} == dict.fromkeys(OF_SOPHIA, words[not metis])
    assert found["quality"] == words[metis]
    assert found["batch-sizes"] == "supported"
    assert found["causes"] == found["long-variant"] == "not decidable from outside"
    assert [key for key, verdict in found.items() if verdict == "undecided"] == ["other-models"]


def test_opposed_claims_that_both_hold(tmp_path: Path) -> None:
    """sophia wins at 64 at once and metis at 128: 'above 32' is contradicted at 128, 'at 100+' is supported."""
    runs = Runs(tmp_path)
    sweep(runs, Truth(at_64=2.0, at_128=0.5))
    found = verdicts(runs.store())
    assert found["above-32-sophia"]["verdict"] == "contradicted"
    assert found["above-100-metis"]["verdict"] == "supported"
    assert "at 64 0.5" in found["above-32-sophia"]["figure"].replace("0.49", "0.5")
    assert "at 128 2.0" in found["above-100-metis"]["figure"].replace("1.9", "2.0")


def test_identical_endpoints(tmp_path: Path) -> None:
    """Nothing is said to be better where both are the same; answers are then of similar quality."""
    same = Truth(1.5, 1.5, 1.5, 1.0, 1.0, (0.3, 0.3), (1.0, 1.0), (500.0, 500.0))
    runs = Runs(tmp_path)
    single(runs, Truth(alone=1.0, price=same.price, power_w=same.power_w))
    long_context(runs, same)
    steady(runs, same)
    offline(runs, same, n=200)
    found = rulings(runs.store())
    assert {found[key] for key in ("single-metis", "single-sophia", "long-context", "steadier", "energy")} <= {
        "undecided",
        "contradicted",
    }
    assert found["money"] == "contradicted"  # the same price and the same tokens: no difference
    assert found["batch-sophia"] == "undecided"
    assert found["quality"] == "supported"


def test_too_little_evidence(tmp_path: Path) -> None:
    """With too little of it each claim is undecided, and the table says what would decide it."""
    runs = Runs(tmp_path)
    truth = Truth()
    single(runs, truth, n=4)
    sweep(runs, truth, loads=(1, 8))
    offline(runs, truth, n=100)
    long_context(runs, truth, lengths=(1_000, 4_000))
    steady(runs, truth, n=10)
    found = verdicts(runs.store())
    for key, would_decide in {
        "single-metis": "6 prompts",
        "above-32-sophia": "33 or more at once",
        "above-100-metis": "100 or more at once",
        "batch-metis": "1,000 requests at once",
        "long-context": "prompts of more than 32,768 tokens",
        "steadier": "20 answers of each endpoint",
        "money": "6 prompts",
        "quality": "prompts",
        "batch-sizes": "a sweep with 32, 64 at once",
        "other-models": "a run of workload raw",
    }.items():
        assert found[key]["verdict"] == "undecided", key
        assert would_decide in found[key]["would_decide"], key


def test_nothing_but_a_run_of_one_workload(tmp_path: Path) -> None:
    """Where a workload was never run, its claims name it; prices that nobody configured are asked for."""
    write(tmp_path, [row for number in range(8) for row in pair(str(number), 2.0 + number / 100, 1.0)])
    found = verdicts(tmp_path)
    assert found["single-metis"]["verdict"] == "contradicted"
    assert found["single-sophia"]["verdict"] == "supported"
    assert found["steadier"]["would_decide"] == "a run of workload steady"
    assert "`price`" in found["money"]["would_decide"]
    assert "`power_w`" in found["energy"]["would_decide"]


def test_an_endpoint_that_does_not_hold_the_load(tmp_path: Path) -> None:
    """Where an endpoint answers few of 64 at once, no one wins there, and the table says how many it answered."""
    runs = Runs(tmp_path)
    sweep(runs, Truth())
    for row in runs.rows:
        if row["load_concurrency"] == 64 and row["endpoint"] == "sophia" and row["prompt_id"].endswith("-1"):
            row.update(outcome="http_error", status=503)
    found = verdicts(runs.store())
    assert found["above-32-sophia"]["verdict"] == "undecided"
    assert "sophia answered 64 of 128" in found["above-32-sophia"]["figure"]
    assert found["batch-sizes"]["verdict"] == "contradicted"


def test_the_newest_run_counts(tmp_path: Path) -> None:
    """Of two runs of a workload the newest decides; naming the older one decides by that."""
    runs = Runs(tmp_path)
    older = single(runs, Truth(alone=0.5), n=20)
    newer = single(runs, Truth(alone=2.0), n=20)
    folder = runs.store()
    assert rulings(folder, older)["single-metis"] == "supported"
    assert rulings(folder, older, newer)["single-metis"] == "contradicted"


def test_other_names(tmp_path: Path) -> None:
    """Two endpoints of other names have the roles in their order, or those that --as gives; the claims name them."""
    runs = Runs(tmp_path, ("left", "right"))
    single(runs, Truth(alone=0.5), n=20)
    folder = runs.store()
    found = verdicts(folder)["single-metis"]
    assert (found["claim"], found["verdict"]) == ("left is faster for single requests", "supported")
    found = verdicts(folder, "--as", "metis=right,sophia=left")["single-metis"]
    assert (found["claim"], found["verdict"]) == ("right is faster for single requests", "contradicted")


def test_both_variants(tmp_path: Path) -> None:
    """Where endpoints offer a model with and without the long context, short prompts decide the claim about them."""
    runs = Runs(tmp_path, ("long", "short"))
    single(runs, Truth(alone=2.0), n=20)
    runs.begin("single", endpoints={"long": {"model": "m-131072"}, "short": {"model": "m"}})
    for number in range(20):
        for place in (0, 1):
            runs.ask(place, str(number), 10 * number + 5 * place, (2.0, 1.0)[place] * runs.noise())
    found = verdicts(runs.store())["long-variant"]
    assert found["verdict"] == "supported"
    assert "latency long : short" in found["figure"]


def test_simulated_endpoints_are_labelled(tmp_path: Path) -> None:
    """The table says which endpoints are simulated, in its title and in a note."""
    runs = Runs(tmp_path)
    single(runs, Truth(), n=10)
    for row in runs.rows:
        if row["endpoint"] == "metis":
            row["simulated"] = True
    done = dyno("report", "--claims", "--spans", runs.store())
    assert "Claims, simulated: metis" in done.stdout
    assert "Simulated: metis." in done.stdout


def test_it_fits_a_terminal(tmp_path: Path) -> None:
    """On a terminal of 80 columns no line is longer, and each claim is there."""
    folder = every_workload(tmp_path, FOR_METIS)
    with in_a_terminal(
        tmp_path, "report", "--claims", "--spans", folder, environment={"COLUMNS": "80", "NO_COLOR": "1"}
    ) as shown:
        code, _ = shown.ends()
    lines = shown.seen.decode().replace("\r", "").splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "hold together with 95 %" in text


@pytest.mark.parametrize(
    ("asked", "order", "says"),
    [
        ("metis=nobody,sophia=sophia", (), "no such endpoint"),
        ("metis=metis", (), "'sophia' is missing"),
        ("metis=metis,sophia=metis", (), "can't be both"),
        ("metis", (), "isn't a role with a name"),
        ("metis=", (), "isn't a role with a name"),
        ("", (), "isn't a role with a name"),
        ("athena=metis,sophia=sophia", (), "isn't a role"),
        ("metis=metis,metis=sophia", (), "twice"),
        ("metis=metis,sophia=sophia,long=metis", (), "'short' is missing"),
        (None, ("metis",), "two endpoints"),
        (None, ("metis", "nobody"), "no request of 'nobody'"),
    ],
)
def test_roles_that_are_none(asked: str | None, order: tuple[str, ...], says: str) -> None:
    """A role that names no endpoint, or not both, is refused with what to write."""
    with pytest.raises(InputError, match=re.escape(says)) as refused:
        roles(asked, ["metis", "sophia"], order)
    assert "\n" not in str(refused.value)


def test_roles_by_name() -> None:
    """A name with the role in it has the role; two others have them in their order; of three others none has."""
    assert roles(None, ["alcf-Sophia", "alcf-Metis", "third"], ()) == Roles("alcf-Metis", "alcf-Sophia")
    assert roles(None, ["left", "right"], ()) == Roles("left", "right")
    assert roles(None, ["left", "right"], ("right", "left")) == Roles("right", "left")
    assert roles("long=a,short=b", ["a", "b"], ()) == Roles("a", "b", ("a", "b"))
    with pytest.raises(InputError, match="metis=NAME,sophia=NAME"):
        roles(None, ["a", "b", "c"], ())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--as", "metis=nobody,sophia=sophia"), "no such endpoint"),
        (("--load", "8"), "--load"),
        (("--slo", "ttft_p95=1s"), "--slo"),
        (("nosuchrun",), "no run 'nosuchrun'"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    """Each is refused in one line with exit code 2."""
    write(tmp_path, pair("1", 2.0, 1.0))
    assert says in refusal("report", "--claims", "--spans", tmp_path, *arguments)


def test_roles_without_claims_and_no_run(tmp_path: Path) -> None:
    """--as belongs to --claims; an empty folder has nothing to decide by."""
    assert "add --claims" in refusal("report", "--spans", tmp_path, "--as", "metis=a,sophia=b")
    assert "no run with requests" in refusal("report", "--claims", "--spans", tmp_path)


def test_blocks_of_time(tmp_path: Path) -> None:
    """Pauses between blocks make blocks: so the spread between them counts as that of so few blocks."""
    runs = Runs(tmp_path)
    runs.begin("steady")
    for number in range(48):
        for place in (0, 1):
            begins_s = 10 * number + 5 * place + 20 * (number // 4)
            runs.ask(place, str(number % 2), begins_s, 4.99)
    with connect(runs.store()) as connection:
        rows = rows_of(connection, sql_text("repeats"))
    assert sorted({row["block"] for row in rows}) == [*range(12)]
    assert {(row["endpoint"], row["prompt"]) for row in rows} == {(name, n) for name in NAMES for n in (0, 1)}


def test_a_shared_prefix_is_no_evidence(tmp_path: Path) -> None:
    """Of long-context runs, one whose prompts share their beginning on purpose doesn't count, though it is newer."""
    runs = Runs(tmp_path)
    fresh = long_context(runs, Truth(very_long=0.5), lengths=(64_000,))
    shared = long_context(runs, Truth(very_long=2.0), lengths=(64_000,))
    for run_id in (fresh, shared):
        of_it = [(row, "17") for row in runs.rows if row["run_id"] == run_id]
        kind = "shared prefix" if run_id == shared else "fresh prefix"
        runs.answers(run_id, of_it, {row["prompt_id"]: "17" for row, _ in of_it}, title=kind)
    found = verdicts(runs.store())["long-context"]
    assert (found["run_id"], found["verdict"]) == (fresh, "supported")


def test_scores_by_length_and_depth(tmp_path: Path) -> None:
    """A long-context run's scores stand by length and depth where the prompts say them, else by bins of tokens."""
    for domains in (True, False):
        runs = Runs(tmp_path / str(domains))
        run_id = long_context(runs, Truth(), lengths=(4_000, 64_000))
        short = {row["prompt_id"]: row["input_tokens"] < 5_000 for row in runs.rows}
        of_it = [(row, "17" if row["endpoint"] == "metis" or short[row["prompt_id"]] else "18") for row in runs.rows]
        domain = {
            prompt_id: f"{'4k' if is_short else '64k'} tokens, depth 50%" for prompt_id, is_short in short.items()
        }
        runs.answers(run_id, of_it, {row["prompt_id"]: "17" for row in runs.rows}, domain=domain if domains else {})
        done = dyno("report", "--spans", runs.store(), "--all")
        assert "Answer quality by length and depth" in done.stdout, done.stderr
        if domains:
            assert cells(done.stdout, "4k", "50 %") == ["metis", "10", "100.0 %", "100.0 %"]
            assert re.search(r"sophia +10 +0\.0 % +0\.0 %", done.stdout.split("64k", 1)[1])


def test_one_run_of_several_workloads(tmp_path: Path) -> None:
    """Where one run holds several workloads, each claim is decided by the requests of its own."""
    runs = Runs(tmp_path)
    run_id = single(runs, Truth(alone=2.0), n=20)
    long_context(runs, Truth(very_long=0.5), lengths=(64_000,))
    for row in runs.rows:
        row["run_id"] = run_id
    found = verdicts(runs.store(), run_id)
    assert {key: found[key]["verdict"] for key in ("single-metis", "long-context")} == {
        "single-metis": "contradicted",
        "long-context": "supported",
    }
    assert "over 20 prompts" in found["single-metis"]["figure"]
    assert "over 10 prompts" in found["long-context"]["figure"]
