"""Where `DYNO_NO_SKIP` is set (CI sets it), a skipped test is a failed one: nothing may be left out there unseen."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

# A shell's background job has Ctrl-C ignored, under nohup hang-ups too, and programs inherit that: those that the tests
# start, and signal, shall find the signals as a terminal's programs do.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# What fails soonest comes first: rules and pure functions, then programs one by one, and all of them together last.
ORDER = ("contract", "driver", "proxy", "collect", "analysis", "e2e", "real")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders in their order; within one, files and tests as they were."""
    folder = Path(__file__).parent
    places = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path.relative_to(folder).parts[0], len(ORDER)))


NO_SKIP = bool(os.environ.get("DYNO_NO_SKIP"))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure; an expected failure (`xfail`) stays what it is."""
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
