"""What calls itself pure does no I/O: it imports neither a database nor an event loop, and reads no clock."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dyno_analysis

PACKAGE = Path(dyno_analysis.__file__).parent
PURE = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and "Pure" in (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
)


def test_the_pure_modules_are_these() -> None:
    """The modules whose docstrings say 'Pure' are those listed, so that none loses the word unnoticed."""
    assert PURE == [
        "compaction.retention",
        "ingest.failures",
        "ingest.formats.cerebras_training",
        "ingest.formats.guidellm",
        "ingest.formats.published_results",
        "ingest.formats.vllm_bench",
        "ingest.otlp.genai",
        "ingest.otlp.json_spans",
        "ingest.otlp.protobuf_spans",
        "ingest.otlp.span",
        "ingest.run",
        "render.table",
        "report.comparison",
        "report.detail_tables",
        "report.discrepancies",
        "report.fairness",
        "report.findings",
        "report.markdown",
        "report.results_json",
        "report.tables",
        "runs.record",
        "spans.columns",
        "spans.file_names",
        "stats.paired",
        "stats.regression",
        "stats.squad",
        "times",
        "trace.waterfall",
    ]


def test_pure_modules_import_no_io() -> None:
    """Imported in a fresh process, they import no duckdb, asyncio, aiohttp or rich."""
    names = ", ".join(f"dyno_analysis.{name}" for name in PURE)
    code = f"import sys, {names}; print(sorted({{'duckdb', 'asyncio', 'aiohttp', 'rich'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_read_no_clock_and_no_file(name: str) -> None:
    """They neither read a clock nor open a file: times and contents are arguments."""
    tree = ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text("utf-8"))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not called & {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "read_text", "read_bytes"}
    assert "open" not in named
