"""`coverage`: what a Coverage call costs: one year and ten years of 1m bars, and ten years with ten times the rows.

The three differ in rows, not in kind: each is one span, grown page by page. The last has bars of 6 s in pages of
10,000, so that it has the facts of ten years of 1m bars and ten times their rows.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rig.bars import MINUTE_US, start_of
from benchmarks.rig.history import PAGE_ROWS, Shape, fill, historyd, series_of
from benchmarks.rig.pairing import milliseconds, paired
from benchmarks.rig.processes import working

YEAR = 525_600
DENSITY = 10


def run(year: int = YEAR, rounds: int = 10, times: int = 100) -> dict[str, Any]:
    """p50 and p99 of the whole call at the client, windows that cut the first page in two."""
    decade = 10 * year
    dense = "ohlcv:binance:DENSE/USDT:6s"
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.db"
        fill(store, {series_of(year): year, series_of(decade): decade})
        fill(store, {dense: decade * DENSITY}, Shape(PAGE_ROWS * DENSITY, MINUTE_US // DENSITY))
        _, address = stack.enter_context(historyd(store))
        worker = stack.enter_context(working("history", address))

        def ask(series: str, rows: int) -> list[float]:
            # Half a page after the first bar: the span's count has to be exact where the window cuts it.
            return list(worker.ask("coverage", series=series, start=start_of(rows - 500).isoformat(), times=times))

        contenders = {
            "1y": partial(ask, series_of(year), year),
            "10y": partial(ask, series_of(decade), decade),
            "10y_10x_rows": partial(ask, dense, decade),
        }
        for warm_up in contenders.values():
            warm_up()
        found = paired(f"{times} Coverage calls", rounds, contenders)
    result = {}
    for name, series in found.items():
        for key, value in milliseconds([one for seconds in series for one in seconds]).items():
            result[f"{key}_{name}"] = value
    return result
