"""`noop_ensure`: EnsureRange of a range that is covered: what the idempotent call costs, and that it asks nobody."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.rig.bars import END, start_of
from benchmarks.rig.few_reads import YEAR
from benchmarks.rig.history import fill, historyd, loopback_exchange, series_of
from benchmarks.rig.pairing import milliseconds
from benchmarks.rig.processes import working


def run(times: int = 2_000, stored: int = YEAR) -> dict[str, Any]:
    """p50 and p99 at the client, over a year of 1m bars; calls as the exchange counts them."""
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.db"
        fill(store, {series_of(stored): stored})
        url = stack.enter_context(loopback_exchange())
        _, address = stack.enter_context(historyd(store, exchange_url=url))
        worker = stack.enter_context(working("history", address))
        arguments = {"series": series_of(stored), "start": start_of(stored).isoformat(), "end": END.isoformat()}
        worker.ask("ensure", **arguments, times=max(1, times // 10))
        done = worker.ask("ensure", **arguments, times=times)
        with urllib.request.urlopen(f"{url}/demo/calls") as answer:
            counted = sum(json.load(answer).values())
    assert done["calls"] == 0
    return {**milliseconds(done["seconds"]), "exchange_calls": counted}
