"""Rules for every test.

In CI nothing is skipped: where the environment variable CI is set, a test or a module that skips itself fails
instead, with its reason. A machine at home may lack a tool; the one that judges a change may not.
Recorded market data is no part of the repository: where it is absent, the tests that read it are left out, and the
summary says so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import realdata

if TYPE_CHECKING:
    from collections.abc import Generator

# How long an example takes says more about the machine than about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not _in_ci() or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{reason}\nNothing may be skipped in CI: bring what the test needs."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if realdata.available():
        return
    left_out = [item for item in items if item.get_closest_marker("realdata")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not realdata.available():
        terminalreporter.write_line(f"no recorded market data in {realdata.ROOT}: the tests that read it are left out")
