"""`questdb_write`: pages of 1,000 bars made visible and covered, beside a bare `executemany` of the same pages.

The bare loop inserts into a table of the same shape, waits for acknowledgements only, and writes no facts. Pages are
committed as one backfill does, and as four at once do, each with a few under way. Each round writes another series of
the same time, so that rows have to be merged into what is there.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pyarrow as pa

from benchmarks.rig.bars import MINUTE_US, batches
from benchmarks.rig.history import PAGE_ROWS
from benchmarks.rig.pairing import median, paired, times_faster
from historyd.coverage import Fact
from historyd.engine.backfill import LOOKAHEAD
from historyd.model.page import Layout
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.venue import Origin
from historyd.stores.questdb import open_questdb
from historyd.stores.questdb_tables import statements
from tests.questdb_server import running_questdb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from historyd.stores.questdb_options import QuestDbOptions

_NAIVE = pa.timestamp("us")


def run(pages: int = 200, rounds: int = 7, modes: tuple[str, ...] = ("nosync", "sync")) -> dict[str, Any]:
    """Rows a second of all, and the ratios, in each of QuestDB's modes of commit."""
    found: dict[str, Any] = {}
    for mode in modes:
        found |= _run(pages, rounds, mode)
    return found


def _run(pages: int, rounds: int, mode: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, running_questdb(Path(folder), QDB_CAIRO_COMMIT_MODE=mode) as questdb:
        ours, bare = questdb.options("ours"), questdb.options("bare")
        numbers = iter(range(9_999))
        contenders = {
            "history": partial(_alone, partial(_commit, LOOKAHEAD), ours, pages, numbers),
            "four_series": partial(_alone, partial(_commit, 4 * LOOKAHEAD), ours, pages, numbers),
            "bare": partial(_alone, _insert, bare, pages, numbers),
        }
        for warm_up in contenders.values():
            warm_up()
        found = paired(f"{pages} pages, {mode}", rounds, contenders)
    rows = pages * PAGE_ROWS
    return {
        f"ratio_to_bare_{mode}": times_faster(found["history"], found["bare"]),
        f"ratio_to_bare_four_backfills_{mode}": times_faster(found["four_series"], found["bare"]),
        f"rows_per_s_{mode}": round(rows / median(found["history"])),
        f"bare_rows_per_s_{mode}": round(rows / median(found["bare"])),
    }


def _alone(work: Any, options: QuestDbOptions, pages: int, rounds: Iterator[int]) -> float:
    return float(asyncio.run(work(options, pages, next(rounds))))


async def _commit(at_once: int, options: QuestDbOptions, pages: int, number: int) -> float:
    async with open_questdb(options) as store:
        series = SeriesId.parse(f"ohlcv:binance:R{number}/USDT:1m")
        await store.open_series(series, Origin("api.binance.com"), Layout(PAGE_ROWS))
        waiting = iter(list(batches(pages * PAGE_ROWS, PAGE_ROWS)))

        async def keep_committing() -> None:
            for batch in waiting:
                first, last = batch.column(0)[0].value, batch.column(0)[-1].value
                await store.commit(series, Fact(TimeRange(first, last + MINUTE_US), 1, batch.num_rows), batch)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(keep_committing())
        return time.perf_counter() - began


async def _insert(options: QuestDbOptions, pages: int, number: int) -> float:
    sql = statements(options.tables)
    connection = await asyncpg.connect(options.dsn)
    try:
        await connection.execute(sql["make_bars"])
        waiting = list(batches(pages * PAGE_ROWS, PAGE_ROWS))
        began = time.perf_counter()
        for batch in waiting:
            stamps, *values = batch.columns
            columns = [stamps.cast(_NAIVE).to_pylist(), *(value.to_pylist() for value in values)]
            rows = [(at, f"R{number}", *prices, number) for at, *prices in zip(*columns, strict=True)]
            await connection.executemany(sql["put_bars"], rows)
        return time.perf_counter() - began
    finally:
        await connection.close()
