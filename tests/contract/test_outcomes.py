"""The outcomes and error types of outcomes.py are complete, are in use, and are what docs/proxy.md lists."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from contract import outcome_tables
from dyno_proxy import outcomes
from dyno_proxy.outcomes import CUT_OFFS, ERROR_TYPES, MEANINGS, OUTCOMES, REFUSALS, CutOff, Ending, Refusal

SOURCES: Final = Path(outcomes.__file__).parent


def test_the_page_has_the_tables() -> None:
    """`make docs` was run after the last change of outcomes.py."""
    page = outcome_tables.PAGE.read_text(encoding="utf-8")
    assert page == outcome_tables.written(page), "docs/proxy.md is out of date: run `make docs`"


def test_a_page_without_its_block_is_refused() -> None:
    """A page without the comments for a table raises an error, so that no table is left out silently."""
    with pytest.raises(ValueError, match="0 blocks 'begin: outcomes, written by make docs'"):
        outcome_tables.written("# A page\n")


def test_each_outcome_has_its_endings_and_its_meaning() -> None:
    """`Ending`, `OUTCOMES` and `MEANINGS` list the same outcomes, each once and in the same order."""
    of_endings = [outcome for pair in get_args(Ending) for outcome in get_args(get_args(pair)[0])]
    assert of_endings == list(OUTCOMES) == list(MEANINGS)


def test_each_error_type_has_its_meaning() -> None:
    """Each error type of every list has exactly one meaning."""
    listed = {name for names in outcome_tables.error_types().values() for name in names} - {"client_cancelled"}
    assert listed == set(ERROR_TYPES)
    assert set(get_args(Refusal)) == set(REFUSALS)
    assert set(get_args(CutOff)) == set(CUT_OFFS)
    assert all(
        [*ERROR_TYPES.values(), *MEANINGS.values(), *CUT_OFFS.values(), *(refused.why for refused in REFUSALS.values())]
    )


def test_each_error_type_is_in_use() -> None:
    """The page names no error type that no request can have. mypy checks that each is used with its outcome."""
    used = set(_texts())
    assert {*ERROR_TYPES, *REFUSALS, *CUT_OFFS} - used == set()


def _texts() -> Iterator[str]:
    """Every text in the proxy's sources but for outcomes.py."""
    for path in SOURCES.rglob("*.py"):
        if path != SOURCES / "outcomes.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
