"""What `dyno sql` prints is safe where it is pasted: in Markdown, in a spreadsheet, in a reader of JSON."""

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dyno_analysis.query.output import markdown_cell, no_formula, strict_json
from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import span, write


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y&gt;"),
        ("&lt;", "&amp;lt;"),
        ("a\r\n| b\u2028c", "a \\| b c"),
        ("[x](javascript:y)", "[x]\\(javascript:y)"),
        ("![x](http://y)", "![x]\\(http://y)"),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_markdown_cells(text: str, shown: str) -> None:
    """HTML, links, and what ends a cell or a row, are shown and don't work."""
    assert markdown_cell(text) == shown


@given(st.lists(st.text(alphabet=st.sampled_from("a\\|<>&[](!\n\r \u2028`"), max_size=12), min_size=2, max_size=2))
def test_markdown_tables(cells: list[str]) -> None:
    """A Markdown parser finds the two cells, with neither HTML nor a link in them."""
    table = "| x | y |\n|---|---|\n| " + " | ".join(map(markdown_cell, cells)) + " |\n"
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(table)
    assert [token.type for token in tokens].count("td_open") == 2
    inner = {child.type for token in tokens for child in token.children or ()}
    assert not inner & {"html_inline", "link_open", "image"}


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-1.5", "-1.5"),
        ("+1e-7", "+1e-7"),
        ("-inf", "'-inf"),
        ("-", "'-"),
        ("plain=1", "plain=1"),
        ("", ""),
    ],
)
def test_cells_that_a_spreadsheet_would_run(cell: str, shown: str) -> None:
    """They begin with an apostrophe; numbers stay numbers."""
    assert no_formula(cell) == shown


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4)
)


@given(st.dictionaries(st.text(), _VALUES, max_size=5))
def test_strict_json(row: dict[str, object]) -> None:
    """NaN and Infinity are null, wherever they stand; texts with these words stay."""

    def known(value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return [known(each) for each in value] if isinstance(value, list) else value

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(strict_json(json.dumps(row)), parse_constant=refuse)
    assert found == {name: known(value) for name, value in row.items()}


def test_through_the_command(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All three, as a user gets them."""
    folder = tmp_path_factory.mktemp("spans")
    write(folder, [span(model="=HYPERLINK(1)|<b>\\|")])
    query = "SELECT model AS \"=m\", [1.5, 'nan'::DOUBLE] AS l, {'x': '-inf'::DOUBLE} AS s, 'NaN' AS t FROM spans"
    rows = dyno("sql", query, "--spans", folder, "--format", "json").stdout
    assert json.loads(rows)[0] == {"=m": "=HYPERLINK(1)|<b>\\|", "l": [1.5, None], "s": {"x": None}, "t": "NaN"}
    plain = dyno("sql", query, "--spans", folder, "--format", "csv").stdout
    assert next(csv.reader(io.StringIO(plain)))[0] == "=m"
    safe = list(
        csv.reader(io.StringIO(dyno("sql", query, "--spans", folder, "--format", "csv", "--no-formulas").stdout))
    )
    assert (safe[0][0], safe[1][0]) == ("'=m", "'=HYPERLINK(1)|<b>\\|")
    assert "add --format csv" in refusal("sql", query, "--spans", folder, "--no-formulas")
    markdown = dyno("sql", query, "--spans", folder, "--format", "markdown").stdout.splitlines()[2]
    assert markdown.startswith("| =HYPERLINK(1)\\|&lt;b&gt;\\\\\\| |")
