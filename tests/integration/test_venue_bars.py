"""Bars of each dialect through real ccxt, engine and store: exact, and nothing claimed that was not said."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from historyd.coverage import State
from historyd.errors import BadAnswer, NoLongerListed, RateLimited, VenueRefused
from historyd.model.page import Layout, Pages
from historyd.model.time_range import MICROS_PER_MS
from historyd.sources.ccxt_setup import rebased
from historyd.sources.venues import venue_of
from tests import venue_faults
from tests.limiters import RecordingObserver
from tests.venues.binance import Binance
from tests.venues.bybit import Bybit
from tests.venues.coinbase import Coinbase
from tests.venues.dialects import FIVE
from tests.venues.house import MINUTE_MS, NOW_MS, TIMES_OF_DAY_MS, bars_of, house_at, open_house, window_of
from tests.venues.kraken import Kraken
from tests.venues.okx import Okx
from tests.venues.serving import Dialect, serve
from tests.venues.tape import Tape, Traded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from historyd.demo.candles import Candle
    from historyd.model.time_range import TimeRange

ccxt: Any = importlib.import_module("ccxt.async_support")

THIS_MINUTE_MS = NOW_MS // MINUTE_MS * MINUTE_MS


def shallow(now_ms: int) -> Traded:
    """A market as old as Kraken's memory allows, with a hole."""
    return Traded(now_ms - 500 * MINUTE_MS, ((now_ms - 400 * MINUTE_MS, now_ms - 300 * MINUTE_MS),))


def deep(now_ms: int) -> Traded:
    """A market with a hole that is wider than any venue's page."""
    return Traded(now_ms - 4000 * MINUTE_MS, ((now_ms - 3000 * MINUTE_MS, now_ms - 1700 * MINUTE_MS),))


def made(kind: type[Dialect], candles: Traded | None = None, now_ms: int = NOW_MS) -> Dialect:
    candles = candles or (shallow if kind is Kraken else deep)(now_ms)
    return kind(Tape((kind.spot,), candles), clock=lambda: now_ms)


@pytest.mark.parametrize("now_ms", TIMES_OF_DAY_MS)
@pytest.mark.parametrize("kind", FIVE)
async def test_a_range_with_a_hole_a_listing_and_an_open_bar_comes_exact(
    kind: type[Dialect], now_ms: int, tmp_path: Path
) -> None:
    dialect, series = made(kind, now_ms=now_ms), bars_of(kind)
    listed_ms = (shallow if kind is Kraken else deep)(now_ms).listed_ms
    this_minute_ms = now_ms // MINUTE_MS * MINUTE_MS
    window = window_of(listed_ms - 100 * MINUTE_MS, now_ms + 10 * MINUTE_MS)
    async with open_house(tmp_path, dialect) as house:
        result = await house.ensure(series, window)
        rows = await house.rows(series, window)
        assert rows == house.expected(series, 0, this_minute_ms)
        assert len(rows) > 350
        assert [(span.state, span.range.start) for span in result.uncovered] == [
            (State.PENDING, this_minute_ms * MICROS_PER_MS)
        ]
        calls = house.venue.count()
        again = await house.ensure(series, window_of(listed_ms - 100 * MINUTE_MS, this_minute_ms))
        assert (again.call_count, house.venue.count()) == (0, calls)


async def naive_loop(exchange: Any, symbol: str, since: int) -> AsyncIterator[list[list[Any]]]:
    """What everybody writes first: the next page begins behind the last row, an empty page is the end."""
    while page := await exchange.fetch_ohlcv(symbol, "1m", since):
        yield page
        since = page[-1][0] + 1


@pytest.mark.parametrize("kind", FIVE)
async def test_the_naive_loop_fails_on_the_same_venue(kind: type[Dialect]) -> None:
    """It ends at the hole (okx, coinbase), skips to the newest bars (kraken), takes the open bar for a closed one."""
    dialect = made(kind, deep(NOW_MS))
    async with serve(dialect) as venue:
        exchange = getattr(ccxt, kind.exchange)({**kind.ccxt, "has": {"fetchCurrencies": False}})
        exchange.urls["api"] = rebased(exchange.urls["api"], venue.url)
        exchange.timeout_on_exit = 0
        try:
            pages = [page async for page in naive_loop(exchange, kind.spot, deep(NOW_MS).listed_ms - 100 * MINUTE_MS)]
        finally:
            await exchange.close()
    seen = [row[0] for page in pages for row in page]
    closed = [row[0] for row in dialect.tape.candles.bars(kind.spot, "1m", 0, THIS_MINUTE_MS - 1, 10_000)]
    if kind in {Okx, Coinbase}:
        assert seen == closed[: len(seen)]
        assert len(seen) < len(closed) / 2
    elif kind is Kraken:
        assert seen[0] > closed[len(closed) // 2]
    else:
        assert seen == [*closed, THIS_MINUTE_MS]


TEN_YEARS_MS = 3653 * 86_400_000


@pytest.mark.parametrize("kind", FIVE)
async def test_ten_years_before_the_listing_cost_forty_calls_once(kind: type[Dialect], tmp_path: Path) -> None:
    """All HTTP calls count, those for the markets too."""
    daily = kind is Kraken
    listed_ms = NOW_MS - (400 if daily else 900) * 86_400_000 - 777 * MINUTE_MS
    series = bars_of(kind, "1d" if daily else "1m")
    end_ms = THIS_MINUTE_MS - 3 * 86_400_000 if daily else listed_ms + 900 * MINUTE_MS
    window = window_of(listed_ms - TEN_YEARS_MS, end_ms)
    async with open_house(tmp_path, made(kind, Traded(listed_ms))) as house:
        result = await house.ensure(series, window)
        assert result.uncovered == ()
        assert await house.rows(series, window) == house.expected(series, 0, end_ms)
        calls = house.venue.count()
        assert calls <= 40
        await house.ensure(series, window)
        assert house.venue.count() == calls
        spans = [span for span, _ in await house.states(series, window)]
        assert set(spans) == {State.COVERED}


@pytest.mark.parametrize("kind", FIVE)
async def test_the_listing_takes_no_more_calls_than_the_table_says(kind: type[Dialect], tmp_path: Path) -> None:
    """Of Kraken a market that has fewer bars than it serves."""
    listed_ms = NOW_MS - (700 * MINUTE_MS if kind is Kraken else 900 * 86_400_000)
    series, observer = bars_of(kind), RecordingObserver()
    async with open_house(tmp_path, made(kind, Traded(listed_ms))) as house:
        found = await house.source.first_bar(series, observer, 0)
        most = house.source.venue(kind.exchange).listing_calls
        assert most is not None
        assert 1 <= len(house.venue.bar_calls) <= most
    assert found is not None
    assert listed_ms - 86_400_000 - MINUTE_MS < found / 1000 <= listed_ms, "the first bar, or the day that it lies in"


@pytest.mark.parametrize("kind", [Okx, Bybit, Coinbase])
async def test_a_listing_that_has_bars_before_it_is_not_believed(kind: type[Dialect], tmp_path: Path) -> None:
    """A venue whose bars of months and days begin later than its minutes."""
    candles = Patchy(NOW_MS - 900 * 86_400_000)
    dialect = kind(Tape((kind.spot,), candles), clock=lambda: NOW_MS)
    async with open_house(tmp_path, dialect) as house:
        assert await house.source.first_bar(bars_of(kind), RecordingObserver(), 0) is None


class Patchy(Traded):
    """Its wide bars begin a hundred days after its minutes."""

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int) -> list[Candle]:
        later = replace(self, listed_ms=self.listed_ms + 100 * 86_400_000)
        return Traded.bars(self if interval == "1m" else later, symbol, interval, start_ms, end_ms, limit)


@pytest.mark.parametrize("kind", [Okx, Bybit, Coinbase])
async def test_a_long_range_that_begins_after_the_listing_pays_one_call_more(
    kind: type[Dialect], tmp_path: Path
) -> None:
    window = window_of(THIS_MINUTE_MS - 40_000 * MINUTE_MS, THIS_MINUTE_MS - 10_000 * MINUTE_MS)
    async with open_house(tmp_path, made(kind, Traded(NOW_MS - 900 * 86_400_000))) as house:
        result = await house.ensure(bars_of(kind), window)
        assert len(house.venue.bar_calls) == result.page_count + 1


@pytest.mark.parametrize("kind", FIVE)
async def test_a_short_range_does_not_pay_for_the_listing(kind: type[Dialect], tmp_path: Path) -> None:
    window = window_of(THIS_MINUTE_MS - 60 * MINUTE_MS, THIS_MINUTE_MS)
    async with open_house(tmp_path, made(kind)) as house:
        await house.ensure(bars_of(kind), window)
        assert len(house.venue.bar_calls) <= 4


def within_a_page(kind: type[Dialect]) -> TimeRange:
    """A closed range that one call answers, whenever the test is run."""
    pages = Pages.of(bars_of(kind), Layout(venue_of(kind.exchange).page_bars))
    around = window_of(THIS_MINUTE_MS - 300 * MINUTE_MS, THIS_MINUTE_MS - 100 * MINUTE_MS)
    window = around.intersect(pages.at(pages.number_of(around.start + around.width // 2)))
    assert window is not None
    return window


def rate_limits() -> list[Any]:
    return [pytest.param(kind, said, id=f"{kind.exchange}-{said}") for kind in FIVE for said in kind.quota_spent]


@pytest.mark.parametrize(("kind", "said"), rate_limits())
async def test_a_spent_quota_is_a_penalty_and_no_empty_answer(kind: type[Dialect], said: str, tmp_path: Path) -> None:
    series, window = bars_of(kind), within_a_page(kind)
    async with open_house(tmp_path, made(kind), max_retries=1) as house:
        house.venue.bars.next(kind.quota_spent[said])
        with pytest.raises(RateLimited) as limited:
            await house.ensure(series, window)
        assert house.penalties == [limited.value.retry_after_s]
        if kind is Binance:
            assert limited.value.retry_after_s == (7.0 if said == "429" else 120.0)
        assert [state for state, _ in await house.states(series, window)] == [State.MISSING]
        await house.ensure(series, window)
        assert await house.rows(series, window) == house.expected(
            series, *(at // 1000 for at in (window.start, window.end))
        )


def nonsense() -> dict[str, Any]:
    faults = {"html": venue_faults.html(), "empty": venue_faults.empty_body(), "truncated": venue_faults.truncated()}
    return faults | {"other": venue_faults.answer('{"code":"0","retCode":0,"error":[],"msg":""}')}


@pytest.mark.parametrize("kind", FIVE)
@pytest.mark.parametrize("said", nonsense())
async def test_nonsense_behind_status_200_is_no_answer(kind: type[Dialect], said: str, tmp_path: Path) -> None:
    series, window = bars_of(kind), within_a_page(kind)
    async with open_house(tmp_path, made(kind), max_retries=1) as house:
        await house.source.check(series)
        house.venue.bars.next(nonsense()[said])
        with pytest.raises(BadAnswer):
            await house.ensure(series, window)
        assert [state for state, _ in await house.states(series, window)] == [State.MISSING]
        assert house.penalties == []


REFUSALS = [
    pytest.param(Binance, venue_faults.status(451, body='{"code":0,"msg":"restricted location"}'), id="binance-451"),
    pytest.param(Binance, venue_faults.html(403), id="binance-403"),
    pytest.param(Bybit, Bybit.country_blocked, id="bybit-cloudfront"),
    pytest.param(Okx, venue_faults.answer('{"code":"51155","msg":"compliance","data":[]}'), id="okx-51155"),
    pytest.param(Coinbase, venue_faults.html(403), id="coinbase-403"),
    pytest.param(Kraken, venue_faults.answer('{"error":["EGeneral:Permission denied"]}'), id="kraken-denied"),
]


@pytest.mark.parametrize(("kind", "fault"), REFUSALS)
async def test_a_place_that_is_not_served_is_refused_for_good(kind: type[Dialect], fault: Any, tmp_path: Path) -> None:
    series, window = bars_of(kind), within_a_page(kind)
    async with open_house(tmp_path, made(kind)) as house:
        await house.source.check(series)
        house.venue.bars.next(fault)
        with pytest.raises(VenueRefused):
            await house.ensure(series, window)
        assert len(house.venue.bar_calls) == 1, "never retried"
        assert house.penalties == []


@pytest.mark.parametrize("kind", FIVE)
async def test_what_is_stored_of_a_delisted_symbol_is_served_and_the_rest_is_refused(
    kind: type[Dialect], tmp_path: Path
) -> None:
    """By a server that has seen it in the venue's list, and is told by the venue; and by one that has not."""
    dialect, series, now_ms = made(kind), bars_of(kind), [NOW_MS]
    dialect.clock = lambda: now_ms[0]
    stored = window_of(THIS_MINUTE_MS - 200 * MINUTE_MS, THIS_MINUTE_MS)
    more = window_of(THIS_MINUTE_MS - 200 * MINUTE_MS, THIS_MINUTE_MS + 20 * MINUTE_MS)
    async with serve(dialect) as venue:
        async with house_at(tmp_path, venue) as house:
            await house.ensure(series, stored)
            rows = await house.rows(series, stored)
            dialect.tape = Tape(("DOGE/EUR",))
            now_ms[0] += 30 * MINUTE_MS
            with pytest.raises(NoLongerListed, match="no longer lists"):
                await house.ensure(series, more)
        async with house_at(tmp_path, venue) as house:
            venue.calls.clear()
            await house.ensure(series, stored)
            assert await house.rows(series, stored) == rows
            assert venue.count() == 0
            with pytest.raises(NoLongerListed, match="no longer lists"):
                await house.ensure(series, more)
            assert await house.rows(series, more) == rows


@pytest.mark.parametrize("kind", FIVE)
async def test_a_redirect_is_refused_and_its_place_not_asked(kind: type[Dialect], tmp_path: Path) -> None:
    series, window = bars_of(kind), within_a_page(kind)
    async with open_house(tmp_path, made(kind)) as house:
        await house.source.check(series)
        calls = house.venue.count()
        house.venue.bars.next(venue_faults.elsewhere(f"{house.venue.url}/login"))
        with pytest.raises(VenueRefused, match=r"elsewhere to 127\.0\.0\.1 \(HTTP 302\)"):
            await house.ensure(series, window)
        assert house.venue.count() == calls + 1
        await house.ensure(series, window)
