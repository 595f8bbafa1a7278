"""`small_read`: the last 120 bars, as a strategy asks for them at each bar, against stock Arrow Flight from memory."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rig.few_reads import ROWS, YEAR
from benchmarks.rig.history import fill, historyd, series_of
from benchmarks.rig.pairing import median, milliseconds, paired, percentile, say, times_faster
from benchmarks.rig.processes import serving, working

CALLERS = (1, 16, 64)


def run(rounds: int = 20, times: int = 200, callers: tuple[int, ...] = CALLERS, stored: int = YEAR) -> dict[str, Any]:
    """Latency of one caller in paired rounds, then calls a second of many."""
    series = series_of(stored)
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.db"
        fill(store, {series: stored})
        _, address = stack.enter_context(historyd(store))
        flight = stack.enter_context(serving("benchmarks.rig.flight", str(stored)))
        ours = stack.enter_context(working("history", address))
        theirs = stack.enter_context(working("flight", flight.ready_line))
        contenders = {
            "history": partial(ours.ask, "last", series=series, rows=ROWS, times=times),
            "flight": partial(theirs.ask, "few", rows=ROWS, times=times),
        }
        for warm_up in contenders.values():
            warm_up()
        found: dict[str, list[list[float]]] = paired(f"{times} reads of {ROWS} rows", rounds, contenders)
        middles = {name: [percentile(reads, 0.5) for reads in rounds_of] for name, rounds_of in found.items()}
        every = {name: milliseconds([one for reads in rounds_of for one in reads]) for name, rounds_of in found.items()}
        # How many times Flight's latency ours is: the goal bounds it from above, so it is no speed ratio.
        ratio = times_faster(middles["flight"], middles["history"])
        result = {**every["history"], "ratio_to_flight": ratio}
        result |= {f"flight_{name}": value for name, value in every["flight"].items()}
        for count in callers:
            say(f"{count} callers")
            rates = [ours.ask("callers", series=series, rows=ROWS, callers=count, calls=times * 5) for _ in range(5)]
            result[f"calls_per_s_{count}"] = round(median(rates))
        return result
