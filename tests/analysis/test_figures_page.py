"""docs/figures.md: every table of a report names a section that exists, and the page has every outcome."""

import re
from pathlib import Path

from dyno_proxy.outcomes import OUTCOMES
from rigs.dyno_command import dyno
from rigs.stored_spans import mirrored, streamed, write

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "figures.md").read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a Markdown text."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_table_is_defined(tmp_path: Path) -> None:
    """Each printed table ends with a section of the page, on the screen and in report.md."""
    rows = [row for number in range(8) for row in mirrored(str(number), 1 + number, 2)]
    rows += [streamed([1000, 2000], outcome="truncated", attributes={"dyno.mirror": "original"})]
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path, "--paired-by", "mirror", "--out", tmp_path / "out").stdout
    for text, underline in ((out, r"^-{3,}$"), ((tmp_path / "out" / "report.md").read_text(), r"^\|---.*\|$")):
        named = re.findall(r"Defined in docs/figures\.md#(\S+)", text)
        tables = len(re.findall(underline, text, re.MULTILINE))
        # report.md has a table of the set-up, too.
        assert len(named) == tables - (text is not out)
        assert set(named) <= anchors(PAGE)


def test_links_lead_somewhere() -> None:
    """Links from these pages to pages and their sections exist."""
    for name in ("figures.md", "statistics.md", "claims.md"):
        text = (REPOSITORY / "docs" / name).read_text(encoding="utf-8")
        for page, anchor in re.findall(r"\]\(([\w./]*)(?:#([\w-]+))?\)", text):
            target = text if not page else (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
            assert not anchor or anchor in anchors(target), (name, page, anchor)


def test_the_page_has_every_outcome() -> None:
    """Each outcome of the proxy is a row of the page."""
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == set(OUTCOMES)
