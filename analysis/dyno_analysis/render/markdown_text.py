r"""Text from outside as Markdown that shows it and does nothing else. Pure.

A name, a prompt or an answer may hold HTML, links, tables and headings. `inline` writes a text so that each character
is shown as it is; `block` shows a text of several lines in a fence that it can't close.
"""

import re
from typing import Final

from dyno_analysis.controls import visible

# An underline within a word and a sharp after one mean nothing. A bare address becomes a link to what it shows.
_MARKS: Final = re.compile(r"[&<>|\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_])|(?<!\S)#")
# What would make a list, a rule or the line under a heading, at a text's beginning.
_LEADING: Final = re.compile(r"^(\d{0,9})([-+=](?=[-+=\s]|$)|(?<=\d)[.)](?=\s|$))")
# Entities, not backslashes, for what HTML and tables read before Markdown does.
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}


def inline(text: str) -> str:
    """The text on one line, for a heading, a cell, an item or a paragraph; each run of white space is one blank."""
    line = visible(" ".join(text.split()))
    line = _MARKS.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), line)
    return _LEADING.sub(r"\1\\\2", line)


def block(text: str) -> str:
    """The text with its lines, in a code block whose fence is longer than any in it."""
    shown = visible(text.replace("\r\n", "\n"))
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"
