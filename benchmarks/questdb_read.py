"""`questdb_read`: a range stored in QuestDB to a client's Table, beside QuestDB asked directly, in fresh processes.

Directly means `asyncpg.fetch` made into a Table, and one Parquet export of the whole range. Ratios are speed by speed,
medians over paired rounds. Small reads are the last 120 bars, through historyd.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rig.few_reads import ROWS, YEAR
from benchmarks.rig.history import fill, historyd, series_of
from benchmarks.rig.pairing import median, milliseconds, paired, times_faster
from benchmarks.rig.processes import working
from benchmarks.rig.questdb_reads import target_of
from tests.questdb_server import running_questdb


def run(rows: int = YEAR, rounds: int = 9, times: int = 400) -> dict[str, Any]:
    """Big reads in paired rounds, then small ones."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        questdb = stack.enter_context(running_questdb(folder))
        options = questdb.options("bench")
        fill(options, {series_of(rows): rows})
        _, address = stack.enter_context(historyd(options))
        direct = target_of(options)
        targets = {"history": address, "asyncpg": direct, "parquet": direct}

        def once(peer: str) -> float:
            with working(peer, targets[peer]) as worker:
                return float(worker.ask("read", rows=rows)["seconds"])

        seconds = paired(f"{rows} rows", rounds, {peer: partial(once, peer) for peer in targets})
        reader = stack.enter_context(working("history", address))
        few = partial(reader.ask, "last", series=series_of(rows), rows=ROWS, times=times)
        few()
        return {
            "speedup_over_asyncpg": times_faster(seconds["history"], seconds["asyncpg"]),
            "ratio_to_direct_parquet": times_faster(seconds["history"], seconds["parquet"]),
            "rows_per_s": round(rows / median(seconds["history"])),
            "asyncpg_rows_per_s": round(rows / median(seconds["asyncpg"])),
            "direct_parquet_rows_per_s": round(rows / median(seconds["parquet"])),
            **{f"small_read_{name}": value for name, value in milliseconds(few()).items()},
        }
