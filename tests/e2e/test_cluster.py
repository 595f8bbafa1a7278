"""`make cluster`, on little data: three servers, one quota, each page once; and Ctrl-C in the middle of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests import cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
HOURS = 24


def test_three_servers_fetch_each_page_once_under_one_quota(capsys: pytest.CaptureFixture[str]) -> None:
    cluster.play(HOURS)
    told = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("historyd on ") for line in told) == 3
    figures = cluster.Figures(**json.loads(told[-1]))
    assert (figures.servers, figures.pages, figures.calls_per_page) == (3, HOURS, 1.0)
    assert figures.most_calls_of_a_page == 1
    assert figures.rows == HOURS * 60
    assert 1 < figures.most_calls_in_a_second <= figures.quota == 20


async def test_ctrl_c_leaves_nothing_running() -> None:
    """Stopped once all servers have begun: every process that was started is gone, and the exit code says why."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.cluster", "100000"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    while not (line := await process.stdout.readline()).startswith(b"6 callers"):
        assert line, "it ended by itself"
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 5  # Redis, QuestDB, three servers
    process.send_signal(signal.SIGINT)
    rest, _ = await process.communicate()
    assert rest.endswith(b"stopped\n")
    assert process.returncode == 130
    assert psutil.wait_procs(started, timeout=20)[1] == []
