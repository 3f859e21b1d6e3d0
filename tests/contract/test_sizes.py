"""Files and functions stay as small as CONTRIBUTING.md says, so that each can be read whole."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
FOLDERS: Final = ("proxy", "driver", "analysis", "tests")
MAX_FILE_LINES: Final = 450
MAX_FUNCTION_LINES: Final = 60


def test_no_file_is_longer_than_a_reader_bears() -> None:
    """Each file has at most 450 lines."""
    lengths = {str(path.relative_to(REPOSITORY)): len(text.splitlines()) for path, text in sources()}
    assert len(lengths) > 300
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    """Each function has at most 60 lines, from `def` to its last line."""
    lengths = {
        f"{path.relative_to(REPOSITORY)}:{node.lineno}": (node.end_lineno or 0) - node.lineno + 1
        for path, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lengths) > 2_000
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def sources() -> Iterator[tuple[Path, str]]:
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield path, path.read_text(encoding="utf-8")
