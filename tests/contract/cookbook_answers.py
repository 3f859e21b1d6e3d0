"""`make docs`: asks docs/sql.md's questions of docs/sample/, and writes the answers under them, and the notebook.

A question is a heading `###`, perhaps a text, and a block of SQL. Its answer is the block of text after that.
docs/cookbook.ipynb has the same questions in the same order. A test compares both with what the questions give.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb

import dyno_analysis

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "sql.md"
NOTEBOOK: Final = DOCS / "cookbook.ipynb"
SAMPLE: Final = DOCS / "sample"

_GROUP: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_QUESTION: Final = re.compile(
    r"^### (?P<title>[^\n]+)\n\n"
    r"(?P<text>(?:(?!```|#)[^\n]+\n\n)?)"
    r"```sql\n(?P<sql>.*?)```\n"
    r"(?:```text\n(?P<answer>.*?)```\n)?",
    re.MULTILINE | re.DOTALL,
)


class Question(NamedTuple):
    """`answer` is what the page says, empty if it says nothing yet."""

    group: str
    title: str
    text: str
    sql: str
    answer: str


def questions(page: str) -> Iterator[Question]:
    """The page's questions, in order."""
    groups = [(found.start(), found[1]) for found in _GROUP.finditer(page)]
    for found in _QUESTION.finditer(page):
        group = [name for start, name in groups if start < found.start()][-1]
        yield Question(group, found["title"], found["text"].strip(), found["sql"], found["answer"] or "")


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The rows as columns of text, numbers rounded to four digits."""
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    table = [names, *([_text(value) for value in row] for row in cursor.fetchall())]
    widths = [max(len(row[n]) for row in table) for n in range(len(names))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "".join(f"{line}\n" for line in lines)


def page_with_answers(page: str) -> str:
    """The page with the answers that its questions have."""
    with dyno_analysis.connect(SAMPLE) as connection:

        def answered(found: re.Match[str]) -> str:
            head = f"### {found['title']}\n\n{found['text']}```sql\n{found['sql']}```\n"
            return f"{head}```text\n{answer(connection, found['sql'])}```\n"

        return _QUESTION.sub(answered, page)


def notebook(page: str) -> str:
    """The notebook with the page's questions and answers."""
    setup = f"import dyno_analysis\n\nspans = dyno_analysis.connect('{SAMPLE.name}')"
    intro = (
        "# Forty questions over a spans folder\n\nMade from [sql.md](sql.md) by `make docs`. The sample's requests are "
        "simulated, all of them. Put your own folder in place of `sample`."
    )
    cells = [_markdown(0, intro), _code(1, setup, "")]
    group = ""
    for question in questions(page):
        if question.group != group:
            group = question.group
            cells.append(_markdown(len(cells), f"## {group}"))
        cells.append(_markdown(len(cells), f"### {question.title}\n\n{question.text}".strip()))
        cells.append(_code(len(cells), f'spans.sql("""\n{question.sql}""")', question.answer))
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _markdown(number: int, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(number: int, code: str, shown: str) -> dict[str, Any]:
    lines = shown.splitlines(keepends=True)
    data = {"data": {"text/plain": lines}, "execution_count": None, "metadata": {}, "output_type": "execute_result"}
    return {
        "cell_type": "code",
        "id": f"cell-{number}",
        "metadata": {},
        "execution_count": None,
        "source": code.splitlines(keepends=True),
        "outputs": [data] if shown else [],
    }


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, timedelta):
        return str(timedelta(seconds=round(value.total_seconds())))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    return str(value)


def main() -> None:
    """Write the page and the notebook if they are out of date, and print their names."""
    page = page_with_answers(PAGE.read_text(encoding="utf-8"))
    for path, text in ((PAGE, page), (NOTEBOOK, notebook(page))):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
