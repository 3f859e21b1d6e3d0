"""Tables in so many columns: nothing is wider, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.render.layout import body, laid_out
from dyno_analysis.render.table import Table, duration, milliseconds, rate, seconds
from dyno_analysis.render.wrapping import width, wrapped

words = st.text(st.sampled_from("abc-_/. 語é\u0301"), max_size=30)


@given(st.text(st.sampled_from("ab -/.語"), max_size=80), st.integers(2, 40))
def test_wrapped_text_is_whole_and_narrow(text: str, columns: int) -> None:
    """Each line fits, and the lines have every character but the blanks between them."""
    lines = wrapped(text, columns)
    assert all(width(line) <= columns for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_words_stay_whole_where_asked() -> None:
    """A path isn't broken, even if it is longer than a line; further lines are indented."""
    path = "spans/runs/20261127_055759_61b6/report.md"
    assert wrapped(f"next: dyno report {path}", 20, "  ", whole=True) == ["next: dyno report", f"  {path}"]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(1, 8))
    align = "".join(draw(st.lists(st.sampled_from("lr"), min_size=n, max_size=n)))
    rows = draw(st.lists(st.lists(words, min_size=n, max_size=n), max_size=4))
    return Table(draw(words), draw(st.lists(words, min_size=n, max_size=n)), align, rows, draw(st.lists(words)))


@given(tables(), st.integers(20, 120))
def test_any_table_fits_and_is_whole(table: Table, columns: int) -> None:
    """No line is wider than asked, and every cell's characters are there."""
    lines = laid_out(table, columns)
    assert all(width(line) <= columns for _, line in lines)
    text = "".join(line for _, line in lines)
    for cells in (table.columns, *table.rows):
        for cell in cells:
            assert all(text.count(character) >= cell.count(character) for character in set(cell.strip()) - {" "})


def test_a_wide_table_in_parts() -> None:
    """Columns that have no room stand in a further part, which begins with the labels again."""
    table = Table("T", ["", *(f"endpoint-{n}" for n in range(6))], "l" + "r" * 6, [["latency", *["12345.678"] * 6]])
    lines = body(table, 40)
    assert {line.split()[0] for line in lines if "12345.678" in line} == {"latency"}
    assert lines.count("") >= 1
    assert "".join(lines).count("12345.678") == 6


def test_long_names_are_wrapped_and_figures_are_not() -> None:
    """A name gives way before a figure does."""
    name = "a-name-of-sixty-characters-that-an-administrator-has-given-x"
    lines = body(Table("", ["", name, "verdict"], "lrl", [["latency", "1.37 s", f"{name} faster"]]), 80)
    assert any("1.37 s" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_rows_that_no_column_holds_are_lines() -> None:
    """A cell of thousands of characters makes its row one line per column, each cell whole."""
    cell = "x" * 3000
    lines = body(Table("", ["id", "text", "n"], "lll", [["1", cell, "2"], ["3", "y", "4"]]), 80)
    assert lines[0] == "id    1"
    assert "".join(lines).count("x") == 3000 + len("text") * 0 + 2
    assert "" in lines  # between the rows


@pytest.mark.parametrize(
    ("value_s", "expected"),
    [
        (None, "–"),
        (0.0, "0.00 µs"),
        (1e-6, "1.00 µs"),
        (0.00026, "0.260 ms"),
        (0.0126, "12.6 ms"),
        (0.489, "489 ms"),
        (4.87, "4.87 s"),
        (75.0, "75.0 s"),
        (1e9, "1000000000 s"),
        (1e15, "1.00e+15 s"),
    ],
)
def test_durations(value_s: float | None, expected: str) -> None:
    """A time has its unit and three digits."""
    assert duration(value_s) == expected


def test_small_and_large_figures() -> None:
    """A figure that isn't zero is never written as zero, and a large one isn't a row of digits."""
    assert (seconds(0.0), seconds(0.001), seconds(1e-6), seconds(1e9)) == (
        "0.000",
        "0.001",
        "0.0000010",
        "1000000000.000",
    )
    assert (milliseconds(1e-6), rate(1e-9), rate(1e15)) == ("0.0010", "1.00e-09", "1.00e+15")
