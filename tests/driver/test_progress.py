"""A run's progress and its lines: as wide as the terminal, and of texts from outside nothing is obeyed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.progress import fitted, named


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@given(st.text(max_size=80), st.text(max_size=80), st.integers(8, 120))
def test_a_name_and_what_is_said_have_so_many_columns(name: str, about: str, columns: int) -> None:
    """It is one line without control characters, and what is cut ends with an ellipsis."""
    shown = named(name, about, columns)
    assert len(shown) <= columns
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("name", "about", "columns", "expected"),
    [
        ("metis", "1.621 s", 24, "metis 1.621 s"),
        ("metis", "", 24, "metis"),
        ("an-inference-endpoint-of-sixty-characters", "1.621 s", 24, "an-inference-en… 1.621 s"),
        ("metis", "failed: HTTP 502: connection refused", 20, "metis failed: HTTP …"),
        ("me\x1b[2Jtis", "(warm-up)", 40, "me\N{REPLACEMENT CHARACTER}[2Jtis (warm-up)"),
    ],
)
def test_what_is_cut(name: str, about: str, columns: int, expected: str) -> None:
    """The name gives way to the latency; a long error gives way to the name."""
    assert named(name, about, columns) == expected


def test_lines_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line is broken at blanks, and a path stays whole; a pipe gets it as it is."""
    monkeypatch.setenv("COLUMNS", "40")
    text = "Run 1: 20 requests to metis, sophia, in spans/runs/20261127_055759_61b6/and-more-of-it"
    assert fitted(text, io.StringIO()) == text
    lines = fitted(text, Terminal()).split("\n")
    assert lines == ["Run 1: 20 requests to metis, sophia, in", "  spans/runs/20261127_055759_61b6/and-more-of-it"]
