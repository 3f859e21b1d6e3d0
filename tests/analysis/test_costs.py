"""Cost and energy of a report: estimates from price and power."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.report.costs import estimates
from dyno_analysis.report.markdown import cut
from rigs.dyno_command import cells, dyno
from rigs.stored_spans import RUN_ID, pair, write


def test_the_formulas() -> None:
    """200 and 80 tokens at 0.22 and 0.59 a million; 500 W for 2 s."""
    price = {"input_per_million": 0.22, "output_per_million": 0.59}
    cost, of_million, energy_j, of_token_j = estimates(price, 500.0, 200.0, 80.0, 2.0)
    assert [cost, of_million] == pytest.approx([0.0000912, 1.14])
    assert (energy_j, of_token_j) == (1000.0, 12.5)
    assert estimates(price, None, None, 80.0, 2.0) == (None, None, None, None)
    assert estimates({}, 10.0, 1.0, 0.0, 2.0) == (None, None, 20.0, None)


@given(*[st.floats(0, 1e6)] * 2, st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_million_tokens_cost_at_least_their_price(into: float, out: float, n_in: float, n_out: float) -> None:
    """The prompt's share comes on top of the output's price."""
    _, of_million, _, _ = estimates({"input_per_million": into, "output_per_million": out}, None, n_in, n_out, None)
    assert of_million is not None
    assert of_million >= out * (1 - 1e-9)


@given(st.text(max_size=50), st.integers(0, 60))
def test_long_texts_are_cut(text: str, longest: int) -> None:
    """A prompt of any length makes a heading of report.md that can be read; what is left out is counted."""
    shown = cut(text, longest)
    assert shown.startswith(text[:longest])
    assert (shown == text) == (len(text) <= longest)
    assert len(shown) <= longest + 40


def test_the_table(tmp_path: Path) -> None:
    """It stands in the report, called estimated, for endpoints with a price or a power; else it is left out."""
    rows = [row for name in "abcdef" for row in pair(name, 2.0, 1.0, input_tokens=200, output_tokens=80)]
    write(tmp_path, rows)
    assert "Cost and energy" not in dyno("report", "--spans", tmp_path).stdout
    run = tmp_path / "runs" / RUN_ID
    run.mkdir(parents=True)
    endpoints = {
        "metis": {"price": {"input_per_million": 0.22, "output_per_million": 0.59}},
        "sophia": {"power_w": 500.0},
    }
    (run / "run.json").write_text(json.dumps({"run_id": RUN_ID, "endpoints": endpoints}))
    out = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out").stdout
    after = out[out.index("Cost and energy, estimated") :]
    assert cells(after, "metis") == ["9.12e-05", "1.14", "–", "–"]
    assert cells(after, "sophia") == ["–", "–", "500", "6.25"]
    assert "Estimates, not measurements" in after
    assert "Cost and energy, estimated" in (tmp_path / "out" / "report.md").read_text()
