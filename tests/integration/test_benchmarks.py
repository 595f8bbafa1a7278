"""Every benchmark runs, on little data: what is asserted is that it measures, never how fast."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks import (
    backfill,
    cancel,
    clients,
    coverage,
    limiter,
    noop_ensure,
    questdb_read,
    questdb_write,
    read,
    small_read,
    stalled_client,
    takeover,
)
from benchmarks.rig.bars import BATCH_ROWS, END, MINUTE_US, SCHEMA, table
from benchmarks.rig.pairing import paired, percentile, times_faster

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
RUNS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "read": (lambda: read.run((read.Size(30_000, "30k", 1, 2),)), "ratio_to_flight_30k"),
    "small_read": (lambda: small_read.run(rounds=2, times=10, callers=(1, 4), stored=5_000), "ratio_to_flight"),
    "coverage": (lambda: coverage.run(year=3_000, rounds=1, times=5), "p50_ms_10y_10x_rows"),
    "noop_ensure": (lambda: noop_ensure.run(times=10, stored=5_000), "p50_ms"),
    "backfill": (lambda: backfill.run(rows=3_000, rounds=1, stored=5_000), "ratio_to_bare_ccxt"),
    "stalled_client": (lambda: stalled_client.run(rows=100_000, streams=2, settled_s=0.3), "grown_mib_per_stream"),
    "cancel": (lambda: cancel.run(rows=200_000, times=3), "p50_ms"),
    "questdb_read": (lambda: questdb_read.run(rows=5_000, rounds=1, times=5), "speedup_over_asyncpg"),
    "questdb_write": (lambda: questdb_write.run(pages=8, rounds=1, modes=("sync",)), "ratio_to_bare_sync"),
    "clients": (
        lambda: clients.run(rows=5_000, rounds=1, warm_up=0, sessions=1, languages=("python",)),
        "min_ratio_to_flight",
    ),
    "takeover": (lambda: takeover.run(counts=(2,), rounds=1), "slowest_s_2_sigkill"),
    "limiter": (lambda: limiter.run(processes=2, duration_s=2.0, long_s=0.0), "utilisation"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_measures(name: str) -> None:
    run, headline = RUNS[name]
    found = run()
    assert json.loads(json.dumps(found)) == found
    assert headline in found
    assert all(math.isfinite(value) for value in found.values() if not isinstance(value, str))


def test_the_command_names_every_benchmark_there_is() -> None:
    command = [sys.executable, "-m", "benchmarks", "no-such"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert [name for name in RUNS if name not in done.stderr] == []


def test_the_bars_are_one_a_minute_up_to_their_end() -> None:
    whole = table(BATCH_ROWS + 7)
    assert whole.schema == SCHEMA
    instants = whole["ts"].cast("int64").to_numpy()
    assert set(np.diff(instants)) == {MINUTE_US}
    assert instants[-1] + MINUTE_US == END.timestamp() * 1_000_000


def test_a_round_runs_every_contender_once() -> None:
    ran: list[str] = []
    found = paired("planted", 5, {"one": lambda: ran.append("one"), "two": lambda: ran.append("two")})
    assert [sorted(ran[at : at + 2]) for at in range(0, 10, 2)] == [["one", "two"]] * 5
    assert {name: len(values) for name, values in found.items()} == {"one": 5, "two": 5}


def test_half_the_time_is_twice_as_fast() -> None:
    assert times_faster([1.0, 2.0, 9.0], [2.0, 4.0, 9.0]) == 2.0


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51.0
    assert percentile(values, 0.99) == 100.0
