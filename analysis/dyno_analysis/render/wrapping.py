"""How wide a text is on a terminal, and its lines in so many columns. Pure."""

import unicodedata
from typing import Final

# A word that is too long is broken after one of these, if one is near.
_BREAKS: Final = frozenset("-_/.,:;@")


def width(text: str) -> int:
    """How many columns a terminal takes for the text: two for a wide character, none for an accent on one."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def padded(text: str, columns: int, align: str) -> str:
    """The text with blanks up to `columns`: after it if `align` is l, before it if r."""
    blanks = " " * (columns - width(text))
    return text + blanks if align == "l" else blanks + text


def wrapped(text: str, columns: int, indent: str = "", *, whole: bool = False) -> list[str]:
    """The text as lines of at most `columns`, broken at blanks; each line but the first begins with `indent`.

    A word that is longer than a line is broken, too. With `whole` it stays whole, and its line is longer.
    """
    found: list[str] = []
    line, begun = "", False
    for each in text.split(" "):
        word = each
        joined = f"{line} {word}" if begun else line + word
        if width(joined) <= columns:
            line, begun = joined, True
            continue
        if begun:
            found.append(line.rstrip())
            line = indent
        while not whole and width(line + word) > columns:
            piece = _beginning(word, columns - width(line))
            found.append(line + piece)
            word, line = word[len(piece) :], indent
        line, begun = line + word, True
    return [*found, line.rstrip()]


def _beginning(word: str, columns: int) -> str:
    """The part of a word that fits, at least one character; it ends after a hyphen or the like, if one is near."""
    end, used = 0, 0
    for character in word:
        used += _columns(character)
        if used > columns:
            break
        end += 1
    end = min(max(end, 1), len(word) - 1) or 1
    near = next((cut for cut in range(end, end // 2, -1) if word[cut - 1] in _BREAKS), end)
    return word[:near]


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
