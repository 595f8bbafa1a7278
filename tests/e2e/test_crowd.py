"""A hundred callers over gRPC, a third of which go away: one fetch per page, exact rows, nothing left behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from historyd.demo.candles import RandomWalk
from tests.e2e.whole import UNLIMITED, Whole, rows_of, whole
from tests.source_lab import floats

if TYPE_CHECKING:
    from pathlib import Path

SERIES = "ohlcv:binance:BTC/USDT:1m"
START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTES = 6000


def wanted(first: int, count: int) -> list[tuple[Any, ...]]:
    start = int(START.timestamp() * 1000) + first * 60_000
    return floats(RandomWalk().bars("BTCUSDT", "1m", start, start + (count - 1) * 60_000, count))


async def caller(it: Whole, first: int, count: int, *, reads: bool) -> None:
    start, end = START + timedelta(minutes=first), START + timedelta(minutes=first + count)
    if not reads:
        result = await it.client.ensure(SERIES, start, end)
        assert result.uncovered == ()
    table = await it.client.read(SERIES, start, end, ensure=reads, require_complete=True)
    assert rows_of(table) == wanted(first, count)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_crowd_is_served_with_one_fetch_per_page(tmp_path: Path, store: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    limits = {**UNLIMITED, "max_concurrency": 3}
    async with whole(tmp_path, store=store, window_size=100, rate_limiter=limits) as it:
        tasks = []
        for _ in range(100):
            first, count = chance.randrange(MINUTES), chance.randrange(1, 800)
            tasks.append(asyncio.create_task(caller(it, first, count, reads=chance.random() < 0.5)))
        doomed = chance.sample(tasks, 33)
        for task in doomed:
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                task.result()
        assert not any(task.cancelled() for task in tasks if task not in doomed)
        pages = [call.query["startTime"] for call in it.exchange.calls if "endTime" in call.query]
        assert len(pages) == len(set(pages)), "a page was asked for twice"
    assert it.engine.under_way == 0
