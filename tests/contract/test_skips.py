"""`tests/conftest.py` keeps its promise to CI: no test is skipped unnoticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

def test_left_out():
    pytest.skip("no such program")

@pytest.mark.xfail
def test_expected_to_fail():
    raise AssertionError

def test_runs():
    pass
"""


@pytest.mark.parametrize(
    ("no_skip", "code", "closing"),
    [(None, 0, "1 passed, 1 skipped, 1 xfailed"), ("1", 1, "1 failed, 1 passed, 1 xfailed")],
    ids=["on a user's machine", "in CI"],
)
def test_skip_is_a_failure_only_where_asked(tmp_path: Path, no_skip: str | None, code: int, closing: str) -> None:
    """A skipped test is named on a user's machine and fails in CI. An expected failure stays one in both."""
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_three.py").write_text(TESTS, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DYNO_", "PYTEST_"))}
    if no_skip is not None:
        environment["DYNO_NO_SKIP"] = no_skip
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "-p", "no:asyncio", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert closing in done.stdout
    assert "no such program" in done.stdout
