"""Stored runs of every workload, generated so that each claim about metis and sophia is true, or false."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from .stored_spans import STARTED_AT_US, span, write

NAMES = ("metis", "sophia")


@dataclass(frozen=True)
class Truth:
    """What is true of the two endpoints: metis' latency as a multiple of sophia's, by workload."""

    alone: float = 0.5
    at_64: float = 2.0
    at_128: float = 0.5
    batch: float = 2.0
    very_long: float = 0.5
    spread_s: tuple[float, float] = (0.1, 0.4)
    price: tuple[float, float] = (1.0, 2.0)
    power_w: tuple[float, float] = (500.0, 1000.0)
    right: tuple[float, float] = (1.0, 1.0)  # the share of answers that are the reference


class Runs:
    """Writes runs into a folder: span rows, run.json and, with answers, their files."""

    def __init__(self, folder: Path, names: tuple[str, str] = NAMES, seed: int = 1) -> None:
        self.folder = folder
        self.names = names
        self.random = np.random.default_rng(seed)
        self.rows: list[dict[str, Any]] = []
        self.made = 0

    def begin(self, workload: str, **of_record: Any) -> str:
        """A new run, a day after the one before it; returns its id."""
        self.made += 1
        run_id = f"2026112{self.made % 10}_120000_{self.made:04x}"
        record = self.folder / "runs" / run_id / "run.json"
        record.parent.mkdir(parents=True)
        endpoints = {name: {"model": "m"} for name in self.names}
        record.write_text(
            json.dumps({"schema": 1, "run_id": run_id, "workload": workload, "endpoints": endpoints, **of_record})
        )
        self.run_id, self.workload = run_id, workload
        return run_id

    def ask(self, place: int, prompt_id: str, begins_s: float, latency_s: float, **columns: Any) -> dict[str, Any]:
        """One ok request to the endpoint at this place."""
        row = span(
            **{
                "endpoint": self.names[place],
                "run_id": self.run_id,
                "workload": self.workload,
                "prompt_id": prompt_id,
                "repeat": 1,
                "started_at_us": STARTED_AT_US + round((self.made * 86_400 + begins_s) * 1e6),
                "duration_us": round(latency_s * 1e6),
                "input_tokens": 200,
                "output_tokens": 80,
                "v": 2,
                "attributes": {},
                **columns,
            }
        )
        self.rows.append(row)
        return row

    def noise(self, spread: float = 0.1) -> float:
        return float(self.random.lognormal(0, spread))

    def store(self) -> Path:
        """Write all rows; returns the folder."""
        write(self.folder, self.rows)
        return self.folder

    def answers(
        self,
        run_id: str,
        rows: Sequence[tuple[dict[str, Any], str]],
        references: Mapping[str, str],
        domain: Mapping[str, str] | None = None,
        title: str | None = None,
    ) -> None:
        """Keep the answers of a run's rows, and its prompts: references and domains by prompt id, one title for all."""
        folder = self.folder / "runs" / run_id
        with duckdb.connect() as connection:
            connection.execute("CREATE TABLE a (trace_id VARCHAR, endpoint VARCHAR, prompt_id VARCHAR, answer VARCHAR)")
            connection.executemany(
                "INSERT INTO a VALUES (?, ?, ?, ?)",
                [(row["trace_id"], row["endpoint"], row["prompt_id"], answer) for row, answer in rows],
            )
            null = "CAST(NULL AS VARCHAR)"
            connection.execute(
                f"COPY (FROM a SELECT trace_id, endpoint, prompt_id, 1 AS repeat, false AS warmup, answer, "
                f"{null} AS reasoning, 'stop' AS finish_reason, {null} AS error, 200 AS status, "
                f"1.0 AS client_ttft_s, 1.0 AS client_latency_s, 0::BIGINT AS sent_at_us) TO '{folder}/answers.parquet'"
            )
            connection.execute(
                "CREATE TABLE p (prompt_id VARCHAR, title VARCHAR, domain VARCHAR, prompt VARCHAR, "
                "reference_answers VARCHAR[])"
            )
            connection.executemany(
                "INSERT INTO p VALUES (?, ?, ?, ?, [?])",
                [(n, title, (domain or {}).get(n), f"prompt {n}", answer) for n, answer in references.items()],
            )
            connection.execute(
                f"COPY (FROM p SELECT prompt_id, title, domain, {null} AS context, prompt AS question, prompt, "
                f"reference_answers) TO '{folder}/prompts.parquet'"
            )


def single(runs: Runs, truth: Truth, n: int = 200) -> str:
    """One request at a time, with answers, prices and power."""
    endpoints = {
        name: {
            "model": "m",
            "price": {"input_per_million": truth.price[place] / 4, "output_per_million": truth.price[place]},
            "power_w": truth.power_w[place],
        }
        for place, name in enumerate(runs.names)
    }
    run_id = runs.begin("single", endpoints=endpoints)
    kept = []
    for number in range(n):
        for place in (0, 1):
            latency_s = (truth.alone if place == 0 else 1.0) * runs.noise()
            row = runs.ask(place, str(number), 10 * number + 5 * place, latency_s, load_concurrency=1)
            right = number % 100 < truth.right[place] * 100
            kept.append((row, f"the right answer {number}" if right else "something else"))
    runs.answers(run_id, kept, {str(number): f"right answer {number}" for number in range(n)})
    return run_id


def sweep(runs: Runs, truth: Truth, loads: Sequence[int] = (1, 8, 32, 64, 128)) -> str:
    """Closed loops: each of N clients sends one request after the other."""
    run_id = runs.begin("sweep")
    begins_s = 0.0
    factors = {64: truth.at_64, 128: truth.at_128}
    for concurrency in loads:
        for place in (0, 1):
            usual_s = factors.get(concurrency, 1.5) if place == 0 else 1.0
            for client in range(concurrency):
                ends_s = begins_s
                for turn in range(max(2, 80 // concurrency)):
                    latency_s = usual_s * runs.noise()
                    prompt_id = f"{concurrency}-{client}-{turn}"
                    runs.ask(place, prompt_id, ends_s, latency_s, load_concurrency=concurrency)
                    ends_s += latency_s
            begins_s += 1_000
    return run_id


def offline(runs: Runs, truth: Truth, n: int = 1_000, served: int = 50) -> str:
    """All at once, of which so many are served at a time."""
    run_id = runs.begin("offline")
    for place in (0, 1):
        free = [0.0] * served
        for number in range(n):
            slot = number % served
            free[slot] += (truth.batch if place == 0 else 1.0) * runs.noise(0.2)
            runs.ask(place, str(number), 10_000 * place, free[slot], load_concurrency=n)
    return run_id


def long_context(runs: Runs, truth: Truth, lengths: Sequence[int] = (1_000, 4_000, 16_000, 64_000, 128_000)) -> str:
    """Ten prompts of each length."""
    run_id = runs.begin("long-context")
    for length in lengths:
        for number in range(10):
            for place in (0, 1):
                latency_s = (truth.very_long if place == 0 and length > 32_768 else 1.0) * length / 1e4 * runs.noise()
                runs.ask(
                    place,
                    f"{length}-{number}",
                    1_000 * number + 500 * place + length,
                    latency_s,
                    input_tokens=length + place,
                )
    return run_id


def steady(runs: Runs, truth: Truth, n: int = 120) -> str:
    """One prompt, in eight blocks that are minutes apart."""
    run_id = runs.begin("steady")
    for number in range(n):
        for place in (0, 1):
            latency_s = (5.0, 1.6)[place] + float(runs.random.normal(0, truth.spread_s[place]))
            begins_s = 12 * number + 6 * place + 600 * (number * 8 // n)
            runs.ask(place, "one", begins_s, max(latency_s, 0.1), repeat=number + 1)
    return run_id


def every_workload(folder: Path, truth: Truth, names: tuple[str, str] = NAMES) -> Path:
    """A run of each workload."""
    runs = Runs(folder, names)
    for make in (single, sweep, offline, long_context, steady):
        make(runs, truth)
    return runs.store()
