"""The main job with QuestDB behind: fetched once, read twice, by two servers; and `kill -9` of a server meanwhile."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from historyd.demo.candles import RandomWalk
from historyd.demo.exchange import serve_exchange
from markethistory.errors import MarketHistoryError
from markethistory.retry import RetryPolicy
from markethistory.values import CoverageState, EnsureProgress
from tests.e2e.on_questdb import PAGE_BARS, config_of, started
from tests.e2e.whole import rows_of
from tests.questdb_server import ROUNDS
from tests.source_lab import floats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from markethistory.values import EnsurePlan
    from tests.questdb_server import QuestDb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERIES = "ohlcv:binance:BTC/USDT:1m"
PAGES = 72
START = datetime(2024, 1, 1, tzinfo=UTC)  # on the grid of hourly pages
END = START + timedelta(minutes=PAGES * PAGE_BARS)
START_MS = int(START.timestamp() * 1000)
WANTED = floats(RandomWalk().bars("BTCUSDT", "1m", START_MS, START_MS + (PAGES * PAGE_BARS - 1) * 60_000, 10_000))


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def test_what_one_server_fetched_the_other_serves_without_a_call(
    questdb: QuestDb, tmp_path: Path, stack: AsyncExitStack
) -> None:
    exchange = await stack.enter_async_context(serve_exchange())
    config = config_of(questdb, exchange.url, f"e{random.getrandbits(60):x}")
    server, one = await started(stack, tmp_path, "one", config)
    _, other = await started(stack, tmp_path, "other", config)
    assert "store QuestDB at 127.0.0.1" in server.line
    assert rows_of(await one.read(SERIES, START, END, require_complete=True)) == WANTED
    asked = len(exchange.calls)
    assert asked >= PAGES
    result = await other.ensure(SERIES, START, END)
    assert (result.call_count, result.page_count) == (0, 0)
    assert rows_of(await other.read(SERIES, START, END, require_complete=True)) == WANTED
    assert rows_of(await other.last(SERIES, 120, end=END)) == WANTED[-120:]
    assert len(exchange.calls) == asked


@pytest.mark.filterwarnings("ignore::markethistory.errors.IncompleteHistoryWarning")  # it is, for a while
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_server_killed_during_a_backfill_has_covered_only_what_is_there(
    questdb: QuestDb, tmp_path: Path, stack: AsyncExitStack, seed: int
) -> None:
    """Another server of the same history reads meanwhile, and finishes what the first one had begun."""
    exchange = await stack.enter_async_context(serve_exchange())
    config = config_of(questdb, exchange.url, f"e{random.getrandbits(60):x}")
    victim, asking = await started(stack, tmp_path, "victim", config, retry=RetryPolicy(attempts=1))
    _, reading = await started(stack, tmp_path, "reader", config)
    kill_at = random.Random(seed).randrange(2, PAGES)

    def kill(event: EnsurePlan | EnsureProgress) -> None:
        if isinstance(event, EnsureProgress) and event.pages_done >= kill_at and victim.process.returncode is None:
            victim.process.send_signal(SIGKILL)

    async def backfill() -> None:
        with suppress(MarketHistoryError):
            await asking.ensure(SERIES, START, END, on_progress=kill)

    backfilling = asyncio.create_task(backfill())
    while not backfilling.done():
        got = rows_of(await reading.read(SERIES, START, END, ensure=False))
        seen = set(got)
        assert got == [row for row in WANTED if row in seen]
    await victim.process.wait()
    spans = await reading.coverage(SERIES, START, END)
    covered = sum(span.row_count for span in spans if span.state is CoverageState.COVERED)
    assert kill_at * PAGE_BARS <= covered
    # What the dead server had sent may still come in.
    assert len(rows_of(await reading.read(SERIES, START, END, ensure=False))) >= covered
    result = await reading.ensure(SERIES, START, END)
    assert result.page_count <= PAGES - covered // PAGE_BARS
    assert rows_of(await reading.read(SERIES, START, END, ensure=False, require_complete=True)) == WANTED
