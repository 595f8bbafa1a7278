"""Rules for every test.

In CI nothing is skipped: where the environment variable CI is set, a test or a module that skips itself fails
instead, with its reason. A machine at home may lack a tool; the one that judges a change may not.
Recorded market data is no part of the repository: where it is absent, the tests that read it are left out, and the
summary says so. So are those that mount a file system, where that is not allowed; CI is root.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import realdata
from tests.questdb_server import QuestDb, running_questdb

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(scope="session")
def questdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuestDb]:
    """A QuestDB of this test process, for tests that leave it running; each takes tables of its own."""
    with running_questdb(tmp_path_factory.mktemp("questdb")) as server:
        yield server


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


def _may_mount() -> bool:
    return _in_ci() or (sys.platform == "linux" and os.geteuid() == 0)


def _left_out() -> dict[str, str]:
    """The marks of the tests that cannot run here, and what is said of them."""
    reasons = {}
    if not realdata.available():
        reasons["realdata"] = f"no recorded market data in {realdata.ROOT}: the tests that read it are left out"
    if not _may_mount():
        reasons["mount"] = "only root may mount a file system: the tests of a full disk are left out"
    return reasons


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marks = _left_out()
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in _left_out().values():
        terminalreporter.write_line(reason)
