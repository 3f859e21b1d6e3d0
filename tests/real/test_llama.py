"""Real engines behind the proxy: it changes nothing, and what it measures is what the client sees."""

import json
import re
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from real.engines import Engine, missing, running_engines, write_config
from rigs.running_proxy import RunningProxy, running_proxy
from rigs.shared_data import SHARED, needs_shared

SQUAD: Final = SHARED / "data" / "squad_v1.1_super_bowl_50.json"
DYNO: Final = Path(sys.executable).parent / "dyno"

NAMES: Final = ("strong", "weak")
QUESTIONS: Final = 6
MAX_TOKENS: Final = 24

# What the client itself may add on two cores that the engine keeps busy, perhaps with other programs: its own parsing,
# and being woken. A single answer may wait long for a processor, so the median decides.
CLIENT_EACH_S: Final = 2.0
CLIENT_MEDIAN_S: Final = 0.020
SPANS_LIMIT_S: Final = 30.0

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"the package {missing()} isn't installed (make test-real does)"),
    needs_shared,
]


@dataclass(frozen=True, slots=True)
class Stack:
    engines: tuple[Engine, Engine]
    proxy: RunningProxy
    clients: ExitStack  # closes every client at the end: an open connection that nobody holds is an error of the run

    def engine(self, name: str) -> Engine:
        (found,) = (engine for engine in self.engines if engine.name == name)
        return found

    def direct(self, name: str) -> openai.OpenAI:
        return self._client(self.engine(name).url)

    def proxied(self, name: str) -> openai.OpenAI:
        return self._client(self.proxy.base_url(name))

    def _client(self, url: str) -> openai.OpenAI:
        return self.clients.enter_context(openai.OpenAI(base_url=url, api_key="none", max_retries=0))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client saw; times in seconds from just before it asked."""

    trace_id: str
    text: str
    finish_reason: str | None
    tokens: tuple[int, int] | None
    chunks: int
    ttft_s: float | None
    latency_s: float


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("real")
    with (
        running_engines(folder) as engines,
        running_proxy(folder, {engine.name: engine.url for engine in engines}) as proxy,
        ExitStack() as clients,
    ):
        yield Stack(engines, proxy, clients)


def prompts() -> list[str]:
    """SQuAD's first questions, worded as the published benchmark worded them."""
    (article,) = json.loads(SQUAD.read_text(encoding="utf-8"))["data"]
    (paragraph,) = article["paragraphs"]
    questions = [entry["question"] for entry in paragraph["qas"]][:QUESTIONS]
    return [f"Context: {paragraph['context']}\n\nQuestion: {question}\n\nAnswer:" for question in questions]


def ask(client: openai.OpenAI, model: str, prompt: str, *, stream: bool) -> Answer:
    trace_id = secrets.token_hex(16)
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "extra_headers": {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
    }
    begun = time.perf_counter()
    if not stream:
        whole = client.chat.completions.create(**asked)
        latency_s = time.perf_counter() - begun
        (choice,) = whole.choices
        assert whole.usage is not None
        tokens = (whole.usage.prompt_tokens, whole.usage.completion_tokens)
        return Answer(trace_id, choice.message.content or "", choice.finish_reason, tokens, 0, None, latency_s)
    texts, ttft_s, finish_reason = [], None, None
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        finish_reason = choice.finish_reason or finish_reason
        if choice.delta.content:
            ttft_s = ttft_s or time.perf_counter() - begun
            texts.append(choice.delta.content)
    latency_s = time.perf_counter() - begun
    return Answer(trace_id, "".join(texts), finish_reason, None, len(texts), ttft_s, latency_s)


def ask_all(client: openai.OpenAI, model: str, *, stream: bool) -> list[Answer]:
    return [ask(client, model, prompt, stream=stream) for prompt in prompts()]


def spans_of(stack: Stack, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Their spans in the same order, by `dyno sql`, once all of them are on disk."""
    listed = ", ".join(f"'{answer.trace_id}'" for answer in answers)
    statement = f"FROM spans WHERE trace_id IN ({listed})"
    deadline = time.monotonic() + SPANS_LIMIT_S
    while True:
        said = subprocess.run(
            [DYNO, "sql", statement, "--spans", stack.proxy.spans, "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
        rows = {row["trace_id"]: row for row in json.loads(said.stdout)}
        if len(rows) == len(answers) or time.monotonic() > deadline:
            return [rows[answer.trace_id] for answer in answers]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", NAMES)
def test_text_is_equal_with_and_without_the_proxy(stack: Stack, name: str, stream: bool) -> None:
    """At temperature 0 an engine gives the same answers, and the same reason to stop, whichever way it is asked."""
    model = stack.engine(name).model
    # The engine keeps the last prompt's state and evaluates only what differs, which may turn a close call: each
    # round finds it as the round before left it.
    ask_all(stack.direct(name), model, stream=stream)
    direct = ask_all(stack.direct(name), model, stream=stream)
    proxied = ask_all(stack.proxied(name), model, stream=stream)
    assert [one.text for one in proxied] == [one.text for one in direct]
    assert [one.finish_reason for one in proxied] == [one.finish_reason for one in direct]
    assert [one.tokens for one in proxied] == [one.tokens for one in direct]
    assert all(one.text for one in direct)


@pytest.mark.parametrize("name", NAMES)
def test_token_counts_are_the_servers(stack: Stack, name: str) -> None:
    """The span of an unstreamed answer holds the counts of the engine's own `usage`, and says whose they are."""
    answers = ask_all(stack.proxied(name), stack.engine(name).model, stream=False)
    for answer, span in zip(answers, spans_of(stack, answers), strict=True):
        assert (span["input_tokens"], span["output_tokens"]) == answer.tokens
        assert span["usage_source"] == "server"
        assert (span["endpoint"], span["outcome"], span["simulated"]) == (name, "ok", False)
        assert span["ttft_s"] is None


@pytest.mark.parametrize("name", NAMES)
def test_chunks_stand_in_where_the_engine_counts_nothing(stack: Stack, name: str) -> None:
    """llama-cpp-python sends no `usage` with a stream: the span counts the client's chunks, and says that it did."""
    answers = ask_all(stack.proxied(name), stack.engine(name).model, stream=True)
    for answer, span in zip(answers, spans_of(stack, answers), strict=True):
        assert (span["output_tokens"], span["chunk_count"]) == (answer.chunks, answer.chunks)
        assert (span["input_tokens"], span["usage_source"]) == (None, "chunks")


@pytest.mark.parametrize("name", NAMES)
def test_times_agree_with_the_clients(stack: Stack, name: str) -> None:
    """TTFT and the answer's end are never later than the client saw, nor earlier than by what proxy and client cost."""
    client, model = stack.proxied(name), stack.engine(name).model
    ask(client, model, prompts()[-1], stream=True)  # makes the connection, whose time only the client counts
    streamed = ask_all(client, model, stream=True)
    whole = ask_all(client, model, stream=False)
    spans = {span["trace_id"]: span for span in spans_of(stack, [*streamed, *whole])}
    differences_s = []
    for answer in [*streamed, *whole]:
        span = spans[answer.trace_id]
        assert span["outcome"] == "ok"
        overhead_s = span["overhead_us"] / 1e6
        # An SDK's stream is over at `[DONE]`; the frame that ends the body, and with it the latency, may come later.
        done_s = span["done_us"] / 1e6
        assert done_s <= span["latency_s"]
        figures = [(answer.latency_s, done_s)]
        if answer.ttft_s is not None:
            figures.append((answer.ttft_s, span["ttft_s"]))
        for seen_s, measured_s in figures:
            assert 0 <= seen_s - measured_s <= overhead_s + CLIENT_EACH_S
            differences_s.append(seen_s - measured_s - overhead_s)
    assert len(differences_s) == 3 * QUESTIONS
    assert statistics.median(differences_s) <= CLIENT_MEDIAN_S


def test_compare_end_to_end(stack: Stack, tmp_path: Path) -> None:
    """`dyno compare` on SQuAD's file: both engines in the table, nothing simulated, and its means are the spans'."""
    config = tmp_path / "dyno.toml"
    write_config(config, stack.engines)
    command: list[str | Path] = [DYNO, "compare", "--config", config, "--prompts", SQUAD, "-n", str(QUESTIONS)]
    compared = subprocess.run(
        [*command, "--max-tokens", str(MAX_TOKENS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert all(name in compared.stdout for name in NAMES)
    assert f"{QUESTIONS}/{QUESTIONS}" in compared.stdout
    assert "simulated" not in compared.stdout

    (results,) = (tmp_path / "spans" / "runs").glob("*/strong_vs_weak_results_*.json")
    document = json.loads(results.read_text(encoding="utf-8"))
    assert document["simulated"] is False
    mean = "SELECT endpoint, avg(latency_s) AS mean_s FROM spans WHERE NOT warmup GROUP BY endpoint"
    said = subprocess.run(
        [DYNO, "sql", mean, "--format", "json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    means_s = {row["endpoint"]: row["mean_s"] for row in json.loads(said.stdout)}
    for name in NAMES:
        assert len(document[name]["results"]) == QUESTIONS
        shown = re.findall(r"mean latency.*", compared.stdout, re.IGNORECASE)
        assert any(f"{means_s[name]:.3f}" in row for row in shown), compared.stdout
