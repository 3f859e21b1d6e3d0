"""The parts of a file that `make sql` and `make docs` write: from a comment `begin: TITLE` to its comment `end`."""

import re
from collections.abc import Sequence

_COMMENTS = r"(?P<open>--|#|<!--) begin: {title}(?P<close>| -->)\n.*?^ *(?P=open) end(?P=close)\n"


def with_block(text: str, title: str, lines: Sequence[str]) -> str:
    """The text with these lines between the two comments, indented as the first of them.

    The comments are SQL's, Python's or Markdown's. Raises ValueError unless there is exactly one such block.
    """
    block = re.compile(r"^(?P<indent> *)" + _COMMENTS.format(title=re.escape(title)), re.MULTILINE | re.DOTALL)
    found = list(block.finditer(text))
    if len(found) != 1:
        raise ValueError(f"{len(found)} blocks 'begin: {title}' … 'end', not one")
    indent, begin, end = found[0]["indent"], found[0]["open"], found[0]["close"]
    inside = [f"{begin} begin: {title}{end}", *lines, f"{begin} end{end}"]
    new = "".join(f"{indent}{line}\n" if line else "\n" for line in inside)
    return text[: found[0].start()] + new + text[found[0].end() :]
