"""`make docs`: writes docs/proxy.md's tables of outcomes, error types and refusals, from the proxy's outcomes.py.

It writes only between a comment `<!-- begin: TITLE -->` and the next comment `<!-- end -->`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, get_args

from contract.written_blocks import with_block
from dyno_proxy.outcomes import CUT_OFFS, ERROR_TYPES, MEANINGS, REFUSALS, CutOff, Ending, Outcome, Refusal

PAGE: Final = Path(__file__).parents[2] / "docs" / "proxy.md"

_OF_STATUS: Final = {"http_error": "the status", "rate_limited": "`429`", "auth": "the status"}


def error_types() -> dict[Outcome, tuple[str, ...]]:
    """The error types that each outcome may have, in alphabetical order; () if no list has them."""
    found: dict[Outcome, tuple[str, ...]] = {}
    for outcomes, kinds in (get_args(pair) for pair in get_args(Ending)):
        for outcome in get_args(outcomes):
            found[outcome] = tuple(
                sorted(name for name in _strings(kinds) if name not in (*get_args(Refusal), *get_args(CutOff)))
            )
    return found


def written(text: str) -> str:
    """The page with its tables as they should be. Raises ValueError if the page lacks a block for a table."""
    text = with_block(text, "outcomes, written by make docs", _table(("Outcome", "When", "`error.type`"), _outcomes()))
    text = with_block(text, "error types, written by make docs", _table(("`error.type`", "Meaning"), _meanings()))
    return with_block(
        text, "refusals, written by make docs", _table(("Status", "`error.type`, `code`", "Why"), _refusals())
    )


def _outcomes() -> Iterator[tuple[str, ...]]:
    of_outcome = error_types()
    for outcome, meaning in MEANINGS.items():
        kinds = ", ".join(f"`{name}`" for name in of_outcome[outcome])
        none = "see below" if outcome == "rejected" else "none"
        yield f"`{outcome}`", meaning, kinds or _OF_STATUS.get(outcome, none)


def _meanings() -> Iterator[tuple[str, ...]]:
    for name, meaning in ERROR_TYPES.items():
        yield f"`{name}`", meaning


def _refusals() -> Iterator[tuple[str, ...]]:
    for code, refused in REFUSALS.items():
        yield str(refused.status), f"`{code}`", refused.why
    for cut_off, why in CUT_OFFS.items():
        yield "none", f"`{cut_off}`", why


def _strings(kinds: object) -> Iterator[str]:
    """The texts of a Literal, and of the Literals in a union."""
    for each in get_args(kinds):
        if isinstance(each, str):
            yield each
        else:
            yield from _strings(each)


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> list[str]:
    return ["", _line(head), "|" + "---|" * len(head), *(_line(row) for row in rows), ""]  # Markdown wants blank lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the page if its tables are out of date, and print its name."""
    text = PAGE.read_text(encoding="utf-8")
    if (new := written(text)) != text:
        PAGE.write_text(new, encoding="utf-8")
        print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
