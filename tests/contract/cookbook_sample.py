"""Makes docs/sample/, the spans folder that docs/sql.md's answers are of: `python -m contract.cookbook_sample`.

Nobody sent these requests: every row says `simulated`. Two endpoints on a Monday and a Tuesday: the traffic of three
clients, a run on each day with the same twelve prompts, a burst on Tuesday at nine, a mirror, an engine's own spans,
and a few rows that were lost. Sophia was given a new version on Tuesday. Its seed makes all figures the same each time.
"""

import json
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from dyno_proxy.file_modes import PRIVATE
from dyno_proxy.telemetry.place import plant_seeds
from rigs.compacted import as_parquet, rested
from rigs.stored_spans import write

FOLDER: Final = Path(__file__).parents[2] / "docs" / "sample"
MONDAY: Final = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
_DAY_S: Final = 86_400
_PROVIDERS: Final = {"metis": "sambanova", "sophia": "vllm"}
_PRICES: Final = {
    "metis": {"input_per_million": 0.22, "output_per_million": 0.59},
    "sophia": {"input_per_million": 0.1, "output_per_million": 0.4},
}
# Question, reference answer, and a wrong one.
_PROMPTS: Final = (
    ("What is the capital of Norway?", "Oslo", "Bergen"),
    ("Which planet is the largest?", "Jupiter", "Saturn"),
    ("What is 17 + 25?", "42", "43"),
    ("Which gas do plants take in?", "carbon dioxide", "oxygen"),
    ("In which year did the Berlin Wall fall?", "1989", "1990"),
    ("What is the chemical symbol of gold?", "Au", "Ag"),
    ("How many legs has a spider?", "eight", "six"),
    ("Which ocean is the largest?", "Pacific", "Atlantic"),
    ("Who wrote Faust?", "Goethe", "Schiller"),
    ("What is the square root of 144?", "12", "14"),
    ("Which metal is liquid at room temperature?", "mercury", "lead"),
    ("How many bits has a byte?", "eight", "ten"),
)
_CLIENTS: Final = (
    ("alice", "openai-python/1.99", "notebook"),
    ("bob", "langchain/0.3", "agent"),
    ("batch", "curl/8.5", None),
)


class Sample:
    """The rows so far, in the order of their numbers."""

    def __init__(self) -> None:
        self.chance = random.Random(19)  # noqa: S311  # figures, not secrets
        self.rows: list[dict[str, Any]] = []
        self.engine: list[dict[str, Any]] = []
        self.answers: dict[str, list[dict[str, Any]]] = {}

    def request(self, at_s: float, endpoint: str, slower: float = 1.0, /, **columns: Any) -> dict[str, Any]:
        """An ok stream, as a request of this endpoint at that many seconds after Monday, 8:00, would be."""
        chance, number = self.chance, len(self.rows) + 1
        newer = endpoint == "sophia" and at_s >= _DAY_S
        tokens = max(2, round(chance.lognormvariate(3.6, 0.5)))
        prompt_tokens = 20 + round(chance.lognormvariate(4.5, 0.6))
        cached = chance.random() < 0.3
        first_s = slower * chance.lognormvariate(-1.6 if endpoint == "metis" else -1.0, 0.25)
        first_s += prompt_tokens * (0.0001 if cached else 0.0006)
        token_s = slower * (0.006 if endpoint == "metis" else 0.009 if newer else 0.016)
        first_us = round(first_s * 1e6)
        step = 4 if endpoint == "metis" else 1  # metis sends four chunks at a time
        offsets = [first_us + round((n // step) * step * token_s * 1e6) for n in range(tokens)]
        if chance.random() < 0.03:
            offsets = [offset + (400_000 if n > tokens // 2 else 0) for n, offset in enumerate(offsets)]
        reasoning = tokens // 3 if endpoint == "metis" else None
        overhead_us = round(300 + chance.lognormvariate(4, 0.6))
        connected_us = round(400 + 300 * chance.random())
        reused = chance.random() < 0.9
        row: dict[str, Any] = {
            **_usual(endpoint, number, prompt_tokens, tokens),
            "seq": number,
            "trace_id": f"{chance.getrandbits(128):032x}",
            "span_id": f"{chance.getrandbits(64):016x}",
            "started_at_us": round((MONDAY.timestamp() + at_s) * 1e6),
            "duration_us": offsets[-1] + 200,
            "finish_reasons": ["length" if tokens > 75 else "stop"],
            "reasoning_tokens": reasoning,
            "cached_tokens": round(prompt_tokens * 0.8) if cached else 0,
            "reasoning_streamed": True if reasoning else None,
            "connection_reused": reused,
            "connected_us": connected_us if reused else connected_us + 30_000,
            "headers_us": first_us - 4_000,
            "first_event_us": first_us - 500,
            "first_token_us": first_us,
            "first_answer_us": offsets[(reasoning or 0)],
            "last_token_us": offsets[-1],
            "done_us": offsets[-1] + 100,
            "chunk_offsets_us": offsets,
            "overhead_us": overhead_us,
            "overhead_end_us": overhead_us + 30,
            "loop_lag_us": round(chance.lognormvariate(4, 0.7)),
            "gc_pause_us": 0 if chance.random() < 0.95 else round(2_000 * chance.random()),
            **columns,
        }
        row["sent_us"] = row["connected_us"] + 80
        row = {name: value for name, value in row.items() if value is not None}
        self.rows.append(row)
        return row

    def failed(self, at_s: float, endpoint: str, outcome: str, took_s: float, **columns: Any) -> None:
        """A request that ended otherwise."""
        nothing = dict.fromkeys(
            ("response_model", "response_id", "finish_reasons", "output_tokens", "input_tokens", "reasoning_tokens",
             "cached_tokens", "usage_source", "reasoning_streamed", "headers_us", "first_event_us", "first_token_us",
             "first_answer_us", "last_token_us", "done_us", "chunk_offsets_us", "chunk_count", "streamed")
        )  # fmt: skip
        self.request(at_s, endpoint, duration_us=round(took_s * 1e6), outcome=outcome, **{**nothing, **columns})


def _usual(endpoint: str, number: int, prompt_tokens: int, tokens: int) -> dict[str, Any]:
    """The columns that don't depend on chance, or on the number of tokens alone."""
    return {
        "v": 2,
        "name": "chat gpt-oss-120b",
        "kind": "CLIENT",
        "operation": "chat",
        "provider": _PROVIDERS[endpoint],
        "model": "gpt-oss-120b",
        "response_model": "gpt-oss-120b",
        "response_id": f"chatcmpl-{number}",
        "input_tokens": prompt_tokens,
        "output_tokens": tokens,
        "method": "POST",
        "status": 200,
        "request_bytes": prompt_tokens * 5 + 300,
        "response_bytes": tokens * 180,
        "path": f"/{endpoint}/v1/chat/completions",
        "endpoint": endpoint,
        "outcome": "ok",
        "streamed": True,
        "simulated": True,
        "usage_source": "server",
        "body_received_us": 150,
        "chunk_count": tokens,
        "attributes": {"server.address": f"{endpoint}.example", "server.port": "443"},
    }


def make(folder: Path) -> None:
    """Write the spans folder; what was there goes."""
    sample = Sample()
    for day in (0, 1):
        _run(sample, day)
        _traffic(sample, day)
    _burst(sample)
    _mirror(sample)
    _failures(sample)
    shutil.rmtree(folder, ignore_errors=True)
    ordered = sorted(sample.rows, key=lambda row: row["started_at_us"] + row["duration_us"])
    kept = [row | {"seq": number} for number, row in enumerate(ordered, start=1) if not 200 <= number < 203]
    as_parquet(rested(write(folder, kept, "node1_42_20261123T075900000000Z")))
    as_parquet(rested(write(folder / "collected", sample.engine, "collector_7_20261123T075900000000Z")))
    for each in (folder, folder / "collected"):
        plant_seeds(each, PRIVATE)
    for run_id, answers in sample.answers.items():
        _write_run(folder / "runs" / run_id, run_id, answers)


def _run(sample: Sample, day: int) -> None:
    """Twelve prompts, three times to both endpoints in turn, from 8:10 on."""
    run_id = ("monday", "tuesday")[day]
    at_s = day * _DAY_S + 600.0
    sample.answers[run_id] = []
    for repeat in (1, 2, 3):
        for number, (_, right, wrong) in enumerate(_PROMPTS):
            for endpoint in sorted(_PROVIDERS, reverse=(number + repeat) % 2 == 0):
                tags = {"run_id": run_id, "workload": "single", "prompt_id": str(number), "repeat": repeat}
                lag_s = round(sample.chance.lognormvariate(-7, 0.5), 6)
                due_us = round((MONDAY.timestamp() + at_s - lag_s) * 1e6)
                row = sample.request(at_s, endpoint, **tags, due_at_unix_us=due_us, send_lag_s=lag_s)
                knows = sample.chance.random() < (0.95 if endpoint == "metis" else 0.85)
                sample.answers[run_id].append(
                    {
                        "trace_id": row["trace_id"],
                        "endpoint": endpoint,
                        "prompt_id": str(number),
                        "repeat": repeat,
                        "warmup": False,
                        "answer": f"It is {right if knows else wrong}.",
                    }
                )
                if endpoint == "sophia":
                    _engine(sample, row)
                at_s += row["duration_us"] / 1e6 + 0.5


def _engine(sample: Sample, row: dict[str, Any]) -> None:
    """vLLM's own span of the request, a child of it."""
    wait_s = (row["duration_us"] - row["connected_us"] - row["overhead_end_us"]) / 1e6
    queue_s = 0.02 + 0.03 * sample.chance.random()
    decode_s = (row["last_token_us"] - row["first_token_us"]) / 1e6
    prefill_s = max(0.01, wait_s - queue_s - decode_s - 0.02)
    sample.engine.append(
        {
            "v": 2,
            "seq": len(sample.engine) + 1,
            "trace_id": row["trace_id"],
            "span_id": f"{sample.chance.getrandbits(64):016x}",
            "parent_span_id": row["span_id"],
            "name": "llm_request",
            "kind": "SERVER",
            "started_at_us": row["started_at_us"] + row["connected_us"],
            "duration_us": round((queue_s + prefill_s + decode_s + 0.005) * 1e6),
            "attributes": {
                "resource.service.name": "vllm",
                "gen_ai.latency.time_in_queue": f"{queue_s:.6f}",
                "gen_ai.latency.time_in_model_prefill": f"{prefill_s:.6f}",
                "gen_ai.latency.time_in_model_decode": f"{decode_s:.6f}",
            },
        }
    )


def _traffic(sample: Sample, day: int) -> None:
    """Three clients from 8:20 to 10:00, with a pause of all from 9:20 to 9:35."""
    at_s = day * _DAY_S + 1_200.0
    while at_s < day * _DAY_S + 7_200:
        at_s += sample.chance.expovariate(1 / 40)
        if 4_800 <= at_s - day * _DAY_S < 5_700:
            at_s = day * _DAY_S + 5_700
        client, agent, user = _CLIENTS[sample.chance.choice((0, 0, 1, 1, 1, 2))]
        session = None if user is None else f"{user}-{day}-{int(at_s // 1_800)}"
        who = {"client": client, "user_agent": agent, "user": user, "session_id": session}
        sample.request(at_s, sample.chance.choice(("metis", "sophia")), client_address="10.0.0.7", **who)


def _burst(sample: Sample) -> None:
    """Tuesday at nine, for two minutes: bob's agents ask sophia too much at once, and the answers are slow."""
    for number in range(60):
        at_s = _DAY_S + 3_600 + number * 2 + sample.chance.random()
        who = {"client": "bob", "user_agent": "langchain/0.3", "user": "agent", "session_id": "agent-burst"}
        if number % 6 == 5:
            said = {"status": 429, "error_type": "429", "retry_after_s": 2.0 + number % 3}
            sample.failed(at_s, "sophia", "rate_limited", 0.05, **who, **said)
        else:
            sample.request(at_s, "sophia", 1 + min(number, 20) / 5, **who, retries=1 if number % 9 == 0 else 0)


def _mirror(sample: Sample) -> None:
    """Twelve of alice's requests to metis, sent to sophia once more."""
    for number in range(12):
        at_s = 7_300.0 + number * 10
        who = {"client": "alice", "user_agent": "openai-python/1.99"}
        original = sample.request(at_s, "metis", **who, attributes={"dyno.mirror": "original"})
        link = {"dyno.mirror.trace_id": original["trace_id"], "dyno.mirror.span_id": original["span_id"]}
        sample.request(at_s + 0.001, "sophia", attributes={"dyno.mirror": "copy", **link})


def _failures(sample: Sample) -> None:
    """One of each other way to end, on both days, and a client that leaves early."""
    agent = {"client": "batch", "user_agent": "curl/8.5"}
    for day in (0, 1):
        at_s = day * _DAY_S + 2_000.0
        sample.failed(at_s, "sophia", "http_error", 0.4, status=500, error_type="500", **agent)
        sample.failed(at_s + 30, "sophia", "http_error", 0.3, status=503, error_type="503", **agent, retries=2)
        sample.failed(at_s + 60, "metis", "upstream_timeout", 60.0, status=504, error_type="timeout", **agent)
        sample.failed(at_s + 90, "metis", "client_cancelled", 1.5, status=200, error_type="client_cancelled", **agent)
        sample.failed(at_s + 120, "metis", "rejected", 0.001, status=401, error_type="unknown_key")
        sample.request(at_s + 150, "metis", outcome="truncated", error_type="truncated", finish_reasons=None, **agent)


def _write_run(folder: Path, run_id: str, answers: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    record = {
        "schema": 1,
        "run_id": run_id,
        "started_at": f"2026-11-{23 if run_id == 'monday' else 24}T08:10:00Z",
        "workload": "single",
        "prompt_set": {"name": "twelve questions", "count": len(_PROMPTS)},
        "endpoints": {
            name: {"model": "gpt-oss-120b", "provider": provider, "price": _PRICES[name], "simulated": True}
            for name, provider in _PROVIDERS.items()
        },
    }
    (folder / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    prompts = [
        {"prompt_id": str(number), "question": question, "prompt": question, "reference_answers": [right]}
        for number, (question, right, _) in enumerate(_PROMPTS)
    ]
    with duckdb.connect() as connection:
        for name, rows in (("prompts", prompts), ("answers", answers)):
            (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
            connection.execute(f"COPY (FROM read_json('{folder}/rows.json')) TO '{folder}/{name}.parquet'")
    (folder / "rows.json").unlink()


if __name__ == "__main__":
    make(FOLDER)
