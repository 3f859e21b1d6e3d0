"""What calls itself pure does no I/O: it imports neither a database nor an event loop, and reads no clock."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dyno_analysis

PACKAGE = Path(dyno_analysis.__file__).parent
PURE = sorted(
    path.stem
    for path in PACKAGE.glob("*.py")
    if "Pure" in (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
)


def test_the_pure_modules_are_these() -> None:
    """The modules that promise it, so that none loses the promise unseen."""
    assert PURE == [
        "cerebras_training",
        "comparison",
        "detail_tables",
        "failures",
        "fairness",
        "findings",
        "genai_spans",
        "guidellm",
        "imported_run",
        "ingest",
        "otlp_json",
        "otlp_protobuf",
        "otlp_span",
        "published",
        "quality",
        "regression",
        "report_markdown",
        "results_json",
        "retention",
        "run_record",
        "span_columns",
        "span_files",
        "statistics",
        "table",
        "tables",
        "times",
        "vllm_bench",
        "waterfall",
    ]


def test_pure_modules_import_no_io() -> None:
    """In a process of their own they bring in no duckdb, no asyncio, no aiohttp, no rich."""
    names = ", ".join(f"dyno_analysis.{name}" for name in PURE)
    code = f"import sys, {names}; print(sorted({{'duckdb', 'asyncio', 'aiohttp', 'rich'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_read_no_clock_and_no_file(name: str) -> None:
    """Time is an argument, and so is whatever was read."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not called & {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "read_text", "read_bytes"}
    assert "open" not in named
