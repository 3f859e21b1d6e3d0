"""Control characters made visible. A model's name or an id may hold any text, and a terminal would obey it."""

import re
from typing import Final

# C0 but for tab and line feed, DEL, C1, and the characters that change the direction of what follows. Half a surrogate
# pair, which JSON can hold, is in no encoding, so it couldn't be printed.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""The text with each control character as JSON escapes it: ESC becomes `\u001b`. Tabs and line feeds stay."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_one_line(text: str) -> str:
    r"""The text as one line: like `visible`, and tabs and line feeds become `\t` and `\n`."""
    return visible(text).replace("\t", "\\t").replace("\n", "\\n")
