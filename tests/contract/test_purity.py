"""What is pure does no I/O and reads no clock: whole rooms, and every other module whose docstring says 'Pure'."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]

# Room → how many modules it has at least. An empty walk would prove nothing.
ROOMS: Final = {
    "proxy/dyno_proxy/exchange": 6,
    "proxy/dyno_proxy/rewrite": 2,
    "proxy/dyno_proxy/readers": 8,
    "proxy/dyno_proxy/http": 6,
    "analysis/dyno_analysis/stats": 3,
    "analysis/dyno_analysis/render": 1,
    "analysis/dyno_analysis/trace": 1,
    "driver/dyno_driver/simulation": 8,
}
# In such a room, and not pure.
EXCEPTIONS: Final = {
    "analysis/dyno_analysis/render/terminal.py": "it prints, and asks whether a person reads",
    "driver/dyno_driver/simulation/server.py": "it is the simulated endpoint's own server",
}
# Pure wherever they stand: the promise is in their docstring.
PROMISED: Final = {"proxy/dyno_proxy": 3, "analysis/dyno_analysis": 20, "driver/dyno_driver": 3}

# All that a pure module imports from elsewhere. A new name here needs a thought: does it read anything by itself?
ALLOWED: Final = {
    *(
        "abc",
        "array",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
    ),
    *(
        "email.utils",
        "hashlib",
        "heapq",
        "http",
        "itertools",
        "json",
        "math",
        "operator",
        "pathlib",
        "random",
        "re",
        "statistics",
        "string",
    ),
    *("email.utils", "sys", "types", "typing", "unicodedata", "urllib.parse", "zlib"),
    *("backports", "brotli", "compression", "google.protobuf", "google.rpc", "httptools", "msgspec", "numpy"),
    *("opentelemetry", "orjson", "email.utils.parsedate_to_datetime"),
}
CALLS: Final = {
    *("now", "utcnow", "today", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "exists", "is_file", "is_dir", "iterdir", "stat"),
}
OF_THE_PROCESS: Final = {"environ", "getenv", "stdin", "stdout", "stderr", "argv"}
BUILT_IN: Final = {"open", "print", "input"}


def in_rooms() -> Iterator[Path]:
    for room in ROOMS:
        yield from modules(REPOSITORY / room)


def by_promise() -> Iterator[Path]:
    rooms = [REPOSITORY / room for room in ROOMS]
    for package in PROMISED:
        for path in modules(REPOSITORY / package):
            said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if "Pure" in said and not any(path.is_relative_to(room) for room in rooms):
                yield path


def modules(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if path.name != "__init__.py" and name(path) not in EXCEPTIONS:
            yield path


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


PURE: Final = [*in_rooms(), *by_promise()]


def test_the_walk_sees_them_all() -> None:
    """Every room has its modules, each package its promises, and each exception exists."""
    for room, at_least in ROOMS.items():
        assert len(list(modules(REPOSITORY / room))) >= at_least, room
    for package, at_least in PROMISED.items():
        assert sum(path.is_relative_to(REPOSITORY / package) for path in by_promise()) >= at_least, package
    for exception in EXCEPTIONS:
        assert (REPOSITORY / exception).is_file()


@pytest.mark.parametrize("path", PURE, ids=name)
def test_it_imports_no_io(path: Path) -> None:
    """What it imports from outside its package can be called without a side effect."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = path.relative_to(REPOSITORY).parts[1]
    assert {each for each in imported(tree) if each.partition(".")[0] != package and not allowed(each)} == set()


@pytest.mark.parametrize("path", PURE, ids=name)
def test_it_reads_no_clock_and_no_file(path: Path) -> None:
    """Time is an argument, and so is whatever was read."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    assert not {node.attr for node in nodes if isinstance(node, ast.Attribute)} & OF_THE_PROCESS
    calls = {node.func.attr for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert not calls & CALLS
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & BUILT_IN


@pytest.mark.parametrize("package", PROMISED)
def test_nothing_that_does_io_comes_with_it(package: str) -> None:
    """All of a package's pure modules together, in a process of their own, bring in no event loop and no database."""
    own = [path for path in PURE if path.is_relative_to(REPOSITORY / package)]
    names = ", ".join(".".join(path.relative_to(REPOSITORY).with_suffix("").parts[1:]) for path in own)
    heavy = ("duckdb", "asyncio", "aiohttp", "rich")
    program = f"import sys, {names}; print(sorted({set(heavy)} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "[]\n"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:end]) in ALLOWED for end in range(1, len(parts) + 1))
