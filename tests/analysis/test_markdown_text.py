"""Text from outside in Markdown: every character is shown, and nothing of it is obeyed."""

import html
import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dyno_analysis.controls import visible
from dyno_analysis.render.markdown_text import block, inline
from rigs.dyno_command import dyno
from rigs.stored_spans import RUN_ID, prompts, write

# HTML passes, tables and crossed-out text are known, and bare addresses aren't made into links: they show themselves.
RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a\\|b",
    "a|b\\",
    "a\\\\|b",
    "x\u2028| y |\u2029z\x0bv\rw\x85u",
    "[x](javascript:alert(1))",
    "![x](http://a/b.png)",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "``` `code` ```",
    "~~~\ncode",
    "# heading",
    "heading\n===",
    "- item",
    "1. item",
    "+ item",
    "---",
    "___",
    "***bold*** _it_ __b__",
    "> quote",
    "&lt;b&gt; &#60;",
    "    indented",
    "\x1b[31mred\x1b[0m \u202egnp",
    "$x$ ~~gone~~",
    "**",
    "_",
]

texts = st.text(st.sampled_from("ab1 \n\t\r\\|`*_[]()<>#&!~-+=.:/\"'\u2028\x0b\x85$x{}^"), max_size=40) | st.text(
    max_size=40
)


def shown(rendered: str) -> str:
    """The text of a piece of HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", rendered))


def one_line(text: str) -> str:
    return visible(" ".join(text.split()))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    ("form", "tags"),
    [
        ("{}", ["p"]),
        ("# {}", ["h1"]),
        ("- {}", ["ul", "li"]),
        ("| a | b |\n|---|---|\n| {} | z |", ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]),
    ],
    ids=["paragraph", "heading", "item", "cell"],
)
def test_it_is_shown_and_no_more(text: str, form: str, tags: list[str]) -> None:
    """In each place the text is one element's, with all its characters, and makes no element of its own."""
    rendered = RENDERER.render(form.format(inline(text)))
    assert re.findall(r"<([a-z]\w*)", rendered) == tags, rendered
    assert one_line(text) in shown(rendered)


@given(texts)
@example("0.")
@example("-\t-")
def test_any_text_is_a_paragraph_and_a_cell(text: str) -> None:
    """Whatever it is: rendered as a paragraph or as a cell, it is the text on one line."""
    expected = one_line(text)
    assert shown(RENDERER.render(inline(text))).strip() == expected
    rendered = RENDERER.render(f"| a | b |\n|---|---|\n| {inline(text)} | z |")
    assert [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", rendered)] == [expected, "z"]


@given(texts)
@example("```\n````\n~~~")
@example("\n")
def test_any_text_stays_in_its_fence(text: str) -> None:
    """A block shows the lines as they are, and what follows it is outside."""
    rendered = RENDERER.render(f"{block(text)}\n\nafter")
    inside = re.fullmatch(r'<pre><code class="language-text">(.*)</code></pre>\n<p>after</p>\n', rendered, re.DOTALL)
    assert inside is not None, rendered
    assert html.unescape(inside[1]) == visible(text.replace("\r\n", "\n")) + "\n"


def test_a_report_of_hostile_names(tmp_path: Path) -> None:
    """report.md of hostile endpoints, models and records has no element that the report itself doesn't make."""
    evil = '<img src=x onerror="a()"> \\| [y](javascript:b) `c`\u2028# d'
    rows = [row | {"endpoint": f"{row['endpoint']} {evil}", "model": evil} for row in prompts(6)]
    write(tmp_path, rows)
    (tmp_path / "runs" / RUN_ID).mkdir(parents=True)
    record = {"run_id": RUN_ID, "prompt_set": {"name": evil, "description": "\ud800 <b>"}, "command": [evil]}
    record["endpoints"] = {f"metis {evil}": {"hardware": evil, "url": evil}}
    (tmp_path / "runs" / RUN_ID / "run.json").write_text(json.dumps(record), encoding="utf-8")
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    rendered = RENDERER.render(text)
    made = {"h1", "h2", "p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code"}
    assert set(re.findall(r"<([a-z]\w*)", rendered)) == made
    assert not re.findall(r"^#+ d", text, re.MULTILINE)
    # Each row has as many cells as its table has columns.
    for table in re.findall(r"<table>.*?</table>", rendered, re.DOTALL):
        rows_of = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        assert len({len(re.findall(r"<t[hd]", row)) for row in rows_of}) == 1


def test_json_without_numbers_that_it_lacks(tmp_path: Path) -> None:
    """A run.json with NaN and infinity, which Python reads, becomes null in the raw results."""
    write(tmp_path, prompts(6))
    (tmp_path / "runs" / RUN_ID).mkdir(parents=True)
    text = f'{{"run_id": "{RUN_ID}", "seed": NaN, "parameters": {{"temperature": Infinity}}}}'
    (tmp_path / "runs" / RUN_ID / "run.json").write_text(text, encoding="utf-8")
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    (results,) = (tmp_path / "out").glob("*.json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(results.read_text(encoding="utf-8"), parse_constant=refuse)
    assert document["runs"][0]["seed"] is None
    assert document["runs"][0]["parameters"] == {"temperature": None}
