"""Trades of each venue's dialect, through real ccxt and the engine, into the store and out of it again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from historyd.coverage import State
from historyd.engine.backfill import LOOKAHEAD
from historyd.model.time_range import MICROS_PER_MS, MICROS_PER_S, TimeRange
from tests.integration.test_dialects import plain_ccxt
from tests.trade_lab import NOW, SETTLED, TEN_YEARS, dialect_of, expected, ticks_at, trade_lab
from tests.venue_faults import holding, passing
from tests.venues.binance import Binance
from tests.venues.bybit import Bybit
from tests.venues.coinbase import Coinbase
from tests.venues.dialects import FIVE
from tests.venues.kraken import Kraken
from tests.venues.okx import Okx
from tests.venues.serving import serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.venues.serving import Dialect
    from tests.venues.tape import Tick

HOUR = 3600 * MICROS_PER_S
FIRST = NOW - 8 * HOUR
"""When the first trade of all happened."""
HOLE = (FIRST + 2 * HOUR, NOW - 3 * HOUR)
WITH_HISTORY = (Binance, Okx, Coinbase, Kraken)
WITH_CURSOR = (Binance, Okx, Kraken)


def eight_hours() -> list[Tick]:
    """A trade every 9 s, at times seven in a millisecond, none for three hours, and then until now."""
    times = [*range(FIRST, HOLE[0], 9 * MICROS_PER_S), *range(HOLE[1], NOW, 9 * MICROS_PER_S)]
    burst = [time + 1000 + part * 10 for time in times[::50] for part in range(7)]
    return ticks_at(sorted(times + burst))


@pytest.mark.parametrize("page", [None, 100])
@pytest.mark.parametrize("kind", WITH_HISTORY)
async def test_a_listing_a_hole_and_the_unsettled_tail_come_back_exact(
    kind: type[Dialect], page: int | None, tmp_path: Path
) -> None:
    ticks = eight_hours()
    window = TimeRange(FIRST - HOUR, NOW + HOUR)
    async with serve(dialect_of(kind, ticks)) as venue, trade_lab(venue, tmp_path / "t.db", page) as lab:
        result = await lab.ensure(window)
        rows, summary = await lab.read(window)
        assert rows == expected(ticks, kind.exchange, TimeRange(0, SETTLED))
        assert [span.range for span in result.uncovered if span.state is State.PENDING] == [
            TimeRange(SETTLED, window.end)
        ]
        others = [span for span in result.uncovered if span.state is not State.PENDING]
        if kind is Okx:  # nobody can tell whether there was nothing, or nothing that it still serves
            assert [span.state for span in others] == [State.UNREACHABLE]
            assert others[0].range.end <= FIRST
            assert others[0].reason == "okx serves no trades of so early a time"
        else:
            assert others == []
            assert summary.complete
        calls = lab.calls
        assert (await lab.ensure(window)).call_count == 0
        assert lab.calls == calls


@pytest.mark.parametrize("kind", FIVE)
async def test_ten_years_before_the_first_trade_cost_forty_calls_once(kind: type[Dialect], tmp_path: Path) -> None:
    ticks = ticks_at(range(NOW - 10 * 60 * MICROS_PER_S, NOW, 30 * MICROS_PER_S))
    window = TimeRange(NOW - TEN_YEARS, NOW)
    async with serve(dialect_of(kind, ticks)) as venue, trade_lab(venue, tmp_path / "t.db") as lab:
        await lab.ensure(window)
        assert lab.calls <= 40
        rows, _ = await lab.read(window)
        since = TimeRange((ticks[0].at_ms + 1) * 1000, SETTLED) if kind is Bybit else TimeRange(0, SETTLED)
        assert rows == expected(ticks, kind.exchange, since)
        calls = len(venue.calls)
        assert (await lab.ensure(window)).call_count == 0
        assert len(venue.calls) == calls


@pytest.mark.parametrize("kind", WITH_CURSOR)
async def test_five_trades_in_one_millisecond_with_page_size_two_are_five(kind: type[Dialect], tmp_path: Path) -> None:
    at = NOW - HOUR
    apart = 1 if kind is Kraken else 0  # no two trades of a market have the same nanosecond there
    ticks = ticks_at([at - HOUR, at - MICROS_PER_S, *(at + part * apart for part in range(5)), at + MICROS_PER_S])
    window = TimeRange(at - 60 * MICROS_PER_S, at + 60 * MICROS_PER_S)
    dialect = dialect_of(kind, ticks)
    dialect.page_trades = 2
    async with serve(dialect) as venue, trade_lab(venue, tmp_path / "t.db", 2) as lab:
        await lab.ensure(window)
        rows, summary = await lab.read(window)
        assert summary.complete
    assert rows == expected(ticks, kind.exchange, window)
    assert len(rows) == 7


@pytest.mark.parametrize("kind", WITH_CURSOR)
async def test_a_venue_that_cuts_answers_shorter_than_we_know_loses_nothing(
    kind: type[Dialect], tmp_path: Path
) -> None:
    """The page size is not set to two here: that the answers are cut can only be guessed."""
    at = NOW - HOUR
    ticks = ticks_at([at + number // 5 * MICROS_PER_MS + number % 5 for number in range(35)])
    dialect = dialect_of(kind, ticks)
    dialect.page_trades = 2
    window = TimeRange(at - 60 * MICROS_PER_S, at + 60 * MICROS_PER_S)
    async with serve(dialect) as venue, trade_lab(venue, tmp_path / "t.db") as lab:
        await lab.ensure(window)
        rows, _ = await lab.read(window)
    assert rows == expected(ticks, kind.exchange, window)


async def test_more_trades_in_a_moment_than_the_venue_serves_of_it_are_unreachable_and_the_rest_is_there(
    tmp_path: Path,
) -> None:
    """Coinbase has windows of whole seconds and no cursor."""
    at = NOW - HOUR
    crowd = at // MICROS_PER_S * MICROS_PER_S
    ticks = ticks_at(sorted([*range(at - HOUR, at, 60 * MICROS_PER_S), *range(crowd, crowd + 300)]))
    dialect = dialect_of(Coinbase, ticks)
    dialect.page_trades = 60
    window = TimeRange(at - HOUR, at + HOUR // 2)
    async with serve(dialect) as venue, trade_lab(venue, tmp_path / "t.db", 60) as lab:
        result = await lab.ensure(window)
        (hole,) = result.uncovered
        assert hole.state is State.UNREACHABLE
        assert hole.range.width <= 4 * MICROS_PER_S
        assert "more trades" in hole.reason
        rows, summary = await lab.read(window)
        assert not summary.complete
        assert rows == [row for row in expected(ticks, "coinbase", window) if row[0] not in hole.range]
        assert (await lab.ensure(window)).call_count == 0


async def test_a_venue_that_serves_its_latest_trades_only_says_so_and_is_not_asked_in_a_loop(tmp_path: Path) -> None:
    ticks = eight_hours()
    window = TimeRange(FIRST - HOUR, NOW)
    async with serve(dialect_of(Bybit, ticks)) as venue, trade_lab(venue, tmp_path / "t.db") as lab:
        result = await lab.ensure(window)
        oldest = ticks[-60].at_ms + 1
        assert [(span.state, span.range.end, span.reason) for span in result.uncovered[:-1]] == [
            (State.UNREACHABLE, oldest * MICROS_PER_MS, "bybit serves only its latest trades")
        ]
        assert result.uncovered[-1].state is State.PENDING
        assert lab.calls <= 1 + LOOKAHEAD
        rows, _ = await lab.read(window)
        assert rows == expected(ticks, "bybit", TimeRange(oldest * MICROS_PER_MS, SETTLED))
        calls = lab.calls
        await lab.ensure(window)
        await lab.ensure(TimeRange(FIRST, FIRST + HOUR))
        assert lab.calls == calls


@pytest.mark.parametrize("kind", WITH_HISTORY)
async def test_the_naive_loop_loses_trades_on_the_same_server(kind: type[Dialect]) -> None:
    """`since` the last trade and a millisecond, until a page is empty: what most downloaders do."""
    ticks = eight_hours()
    dialect = dialect_of(kind, ticks)
    got: set[str] = set()
    async with plain_ccxt(dialect) as exchange:
        since, calls = FIRST // MICROS_PER_MS, 0
        until = {} if kind is not Coinbase else {"until": NOW // MICROS_PER_MS}
        while calls < 100:
            calls += 1
            page = await exchange.fetch_trades(kind.spot, since, 100, dict(until))
            if not page:
                break
            got |= {one["id"] for one in page}
            since = page[-1]["timestamp"] + 1
    settled = {row[2] for row in expected(ticks, kind.exchange, TimeRange(0, SETTLED))}
    assert settled - got, "or the server is no test of ours"


@pytest.mark.parametrize("kind", WITH_HISTORY)
async def test_an_end_at_any_call_loses_and_doubles_nothing(kind: type[Dialect], tmp_path: Path) -> None:
    """Each life of the engine ends while a call is on the wire, one call later than the one before."""
    start = NOW - 3 * HOUR
    times = range(start, start + HOUR, 25 * MICROS_PER_S)
    ticks = ticks_at(sorted([*times, *(time + part // 2 for time in times[::10] for part in range(6))]))
    window = TimeRange(start, start + HOUR)
    dialect = dialect_of(kind, ticks)
    lives = 0
    async with serve(dialect) as venue:
        finished = False
        while not finished:
            lives += 1
            reached = asyncio.Event()
            venue.trades.next(passing(), times=lives)
            venue.trades.next(holding(reached))
            async with trade_lab(venue, tmp_path / "t.db", 20) as lab:
                finished = await _ended(asyncio.create_task(lab.ensure(window)), reached)
                lab.engine.abandon()
            venue.trades.forget()
        async with trade_lab(venue, tmp_path / "t.db", 20) as lab:
            assert (await lab.ensure(window)).call_count == 0
            rows, summary = await lab.read(window)
    assert rows == expected(ticks, kind.exchange, window)
    assert summary.complete
    assert lives >= 3


async def _ended(ensuring: asyncio.Task[object], reached: asyncio.Event) -> bool:
    """Waits for the end of the work (True) or for the call that is held, upon which the work is cancelled."""
    held = asyncio.create_task(reached.wait())
    await asyncio.wait({ensuring, held}, return_when=asyncio.FIRST_COMPLETED)
    held.cancel()
    if ensuring.done():
        ensuring.result()
        return True
    ensuring.cancel()
    await asyncio.wait({ensuring})
    return False
