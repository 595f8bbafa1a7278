"""A hundred callers want overlapping ranges at once, and some go away: each page is fetched once, nobody is harmed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from historyd.engine.events import EnsureResult, ReadRequest, ReadSummary
from historyd.engine.history import HistoryEngine
from historyd.model.page import Layout, Pages
from historyd.model.rows import BARS
from historyd.stores.embedded import open_embedded
from tests.integration.test_engine import NOW, SERIES, expected, minutes
from tests.scripted import ScriptedSource, VirtualClock

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.model.time_range import TimeRange
    from historyd.sources.base import Answer

CALLERS = 100
PAGE_BARS = 50


class FitfulSource(ScriptedSource):
    """Takes a random number of turns of the event loop for an answer."""

    def __init__(self, clock: VirtualClock, chance: random.Random) -> None:
        super().__init__(clock, page_bars=PAGE_BARS)
        self._chance = chance

    async def fetch_bars(self, *args: Any) -> Answer:
        answer = await super().fetch_bars(*args)
        for _ in range(self._chance.randrange(20)):
            await asyncio.sleep(0)
        return answer


async def caller(engine: HistoryEngine, window: TimeRange, *, reads: bool) -> None:
    """Ensures or reads the window and checks every row of it."""
    if reads:
        events = [event async for event in engine.read(ReadRequest(SERIES, window, ensure=True, require_complete=True))]
        assert isinstance(events[-1], ReadSummary)
    else:
        ensured = [event async for event in engine.ensure(SERIES, window)]
        assert isinstance(ensured[-1], EnsureResult)
        assert ensured[-1].uncovered == ()
        events = [event async for event in engine.read(ReadRequest(SERIES, window))]
    table = pa.Table.from_batches([event for event in events if isinstance(event, pa.RecordBatch)], BARS)
    assert table.equals(expected(window))


@pytest.mark.parametrize("seed", range(5))
async def test_each_page_is_fetched_once_and_every_survivor_is_served(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    clock = VirtualClock(NOW)
    source = FitfulSource(clock, chance)
    async with open_embedded(tmp_path / "history.db") as store:
        async with HistoryEngine(store, source, clock=clock, sleep=clock.sleep) as engine:
            tasks = []
            for _ in range(CALLERS):
                start = chance.randrange(-3000, -200)
                window = minutes(start, start + chance.randrange(1, 200))
                tasks.append(asyncio.create_task(caller(engine, window, reads=chance.random() < 0.5)))
            doomed = chance.sample(tasks, CALLERS // 3)
            for task in doomed:
                for _ in range(chance.randrange(5)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait(tasks)
            survivors = [task for task in tasks if task not in doomed]
            for task in survivors:
                task.result()
            for task in doomed:
                with contextlib.suppress(asyncio.CancelledError):
                    task.result()
        assert engine.under_way == 0
    assert len(source.calls) == len(set(source.calls)), "a page was fetched twice"
    pages = Pages.of(SERIES, Layout(PAGE_BARS))
    assert {window.start for window in source.calls} <= {
        pages.at(pages.number_of(window.start)).start for window in source.calls
    }
    assert source.on_the_wire == 0
