"""Figures come from the measurement: the table shows the times that the simulator was told to take."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rigs.programs import running

PROMPTS = 3


def compared(folder: Path, fixed_s: dict[str, float], per_token_s: float, output_tokens: int) -> dict[str, Any]:
    """Run `dyno compare` with simulated endpoints that have these constants. Returns its results file."""
    folder.mkdir()
    simulate = [sys.executable, "-m", "dyno", "simulate", "--spread-s", "0", "--per-token-s", str(per_token_s)]
    simulate += ["--output-tokens", str(output_tokens)]
    for name, value in fixed_s.items():
        simulate += ["--profile", name, "--fixed-s", f"{name}={value}"]
    with running(simulate, r"^dyno simulate: (\w+) on (\S+)$", folder / "log", lines=len(fixed_s)) as ready:
        sections = [f'[endpoints.{match[1]}]\nurl = "{match[2]}"\nmodel = "m"\n' for match in ready]
        (folder / "dyno.toml").write_text("".join(sections), encoding="utf-8")
        command = [sys.executable, "-m", "dyno", "compare", "--config", "dyno.toml", "-n", str(PROMPTS)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Comparison, simulated" in done.stdout
    (results,) = (folder / "spans" / "runs").glob("*/*_results_*.json")
    document: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return document


def test_a_changed_constant_changes_the_table(tmp_path: Path) -> None:
    """Other fixed times, times per token and lengths change the means by that much. No figure is hard-coded."""
    first = compared(tmp_path / "first", {"metis": 0.1, "sophia": 0.3}, 0.01, 10)
    second = compared(tmp_path / "second", {"metis": 0.4, "sophia": 0.1}, 0.005, 20)
    for document, fixed_s, per_token_s, tokens in (
        (first, {"metis": 0.1, "sophia": 0.3}, 0.01, 10),
        (second, {"metis": 0.4, "sophia": 0.1}, 0.005, 20),
    ):
        for name, fixed in fixed_s.items():
            statistics = document[name]["statistics"]
            assert statistics["latency"]["mean"] == pytest.approx(fixed + per_token_s * tokens, abs=0.05)
            assert {each["metadata"]["completion_tokens"] for each in document[name]["results"]} == {tokens}
