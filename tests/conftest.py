"""If `DYNO_NO_SKIP` is set (CI sets it), a skipped test fails, so that CI leaves no test out unnoticed."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine a single example may take any time. Durations are no property here.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# A shell's background job ignores SIGINT, and under nohup also SIGHUP. The programs that it starts inherit this. The
# tests send these signals to programs that they start, so the default handlers are restored here.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# The tests that fail soonest come first: rules and pure functions. Then come single programs, then all together.
ORDER = ("contract", "driver", "proxy", "collect", "analysis", "e2e", "real")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by folder, as ORDER says. Within a folder, their order stays."""
    folder = Path(__file__).parent
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.relative_to(folder).parts[0], len(ORDER)))


NO_SKIP = bool(os.environ.get("DYNO_NO_SKIP"))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure. An expected failure (`xfail`) isn't changed."""
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}: not to be skipped here (DYNO_NO_SKIP is set)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report)
    return report
