"""The entries of the venue table that are not among the five, each against a small server of its dialect."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from historyd.coverage import State
from historyd.demo.candles import GivenRows
from historyd.errors import UnknownTimeframe
from historyd.model.series import SeriesId
from tests.limiters import RecordingObserver
from tests.venues.house import MINUTE_MS, NOW_MS, TIMES_OF_DAY_MS, bars_of, open_house, window_of
from tests.venues.others import EIGHT, Bitget, Bitstamp, Gate, Htx, Kucoin
from tests.venues.tape import Tape, Traded

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.demo.candles import Candles
    from tests.venues.others import Tailed

importlib.import_module("ccxt.async_support")  # seconds that belong to no test

THIS_MINUTE_MS = NOW_MS // MINUTE_MS * MINUTE_MS
DAY_MS = 1440 * MINUTE_MS


def deep(now_ms: int) -> Traded:
    """A market with a hole that is wider than any page."""
    return Traded(now_ms - 5500 * MINUTE_MS, ((now_ms - 4000 * MINUTE_MS, now_ms - 2400 * MINUTE_MS),))


def made(kind: type[Tailed], candles: Candles | None = None, now_ms: int = NOW_MS) -> Tailed:
    return kind(Tape((kind.spot,), candles or deep(now_ms)), clock=lambda: now_ms)


@pytest.mark.parametrize("now_ms", TIMES_OF_DAY_MS)
@pytest.mark.parametrize("kind", EIGHT)
async def test_a_range_with_a_hole_and_an_open_bar_comes_exact(kind: type[Tailed], now_ms: int, tmp_path: Path) -> None:
    series, window = bars_of(kind), window_of(now_ms - 5600 * MINUTE_MS, now_ms + 10 * MINUTE_MS)
    async with open_house(tmp_path, made(kind, now_ms=now_ms), ccxt=kind.ccxt) as house:
        result = await house.ensure(series, window)
        assert await house.rows(series, window) == house.expected(series, 0, now_ms // MINUTE_MS * MINUTE_MS)
        assert [span.state for span in result.uncovered] == [State.PENDING]


@pytest.mark.parametrize("kind", [Kucoin, Bitstamp])
async def test_the_listing_is_found_by_wide_bars(kind: type[Tailed], tmp_path: Path) -> None:
    listed_ms = NOW_MS - 900 * DAY_MS
    window = window_of(listed_ms - 3653 * DAY_MS, listed_ms + 100 * MINUTE_MS)
    async with open_house(tmp_path, made(kind, Traded(listed_ms)), ccxt=kind.ccxt) as house:
        assert (await house.ensure(bars_of(kind), window)).uncovered == ()
        assert len(house.venue.bar_calls) <= 20
        assert await house.rows(bars_of(kind), window) == house.expected(bars_of(kind), 0, window.end // 1000)


@pytest.mark.parametrize(("kind", "symbol"), [(Kucoin, "BTC/USDT:USDT"), (Bitget, "BTC/USDT:USDT")])
async def test_contracts_come_in_pages_of_their_own_size(kind: type[Tailed], symbol: str, tmp_path: Path) -> None:
    series = SeriesId.parse(f"ohlcv:{kind.exchange}:{symbol}:1m")
    window = window_of(THIS_MINUTE_MS - 2300 * MINUTE_MS, THIS_MINUTE_MS)
    async with open_house(tmp_path, made(kind), ccxt=kind.ccxt) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        assert len(await house.rows(series, window)) == 2300


async def test_days_of_bitgets_contracts_come_in_windows_of_ninety(tmp_path: Path) -> None:
    """ccxt would ask for 90 of the 200 that it was told, and the rest would pass for empty."""
    series = SeriesId.parse("ohlcv:bitget:BTC/USDT:USDT:1d")
    window = window_of(NOW_MS // DAY_MS * DAY_MS - 500 * DAY_MS, NOW_MS // DAY_MS * DAY_MS)
    async with open_house(tmp_path, made(Bitget, Traded(NOW_MS - 2000 * DAY_MS)), ccxt=Bitget.ccxt) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        assert len(await house.rows(series, window)) == 500


async def test_bars_of_three_days_at_bitget_come_in_pages_of_a_hundred(tmp_path: Path) -> None:
    series = bars_of(Bitget, "3d")
    window = window_of(NOW_MS - 900 * DAY_MS, NOW_MS // (3 * DAY_MS) * 3 * DAY_MS)
    async with open_house(tmp_path, made(Bitget, Traded(NOW_MS - 2000 * DAY_MS)), ccxt=Bitget.ccxt) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        assert await house.rows(series, window) == house.expected(series, window.start // 1000, window.end // 1000)


async def test_gate_is_unreachable_beyond_its_ten_thousand_bars(tmp_path: Path) -> None:
    window = window_of(THIS_MINUTE_MS - 12_000 * MINUTE_MS, THIS_MINUTE_MS - 9_000 * MINUTE_MS)
    async with open_house(tmp_path, made(Gate, Traded(0)), ccxt=Gate.ccxt) as house:
        (span,) = (await house.ensure(bars_of(Gate), window)).uncovered
        assert span.state is State.UNREACHABLE
        assert "gate serves only the last" in span.reason
        assert len(await house.rows(bars_of(Gate), window)) == 9899 - 9000


async def test_contracts_of_which_htx_gives_only_the_newest_are_not_taken_for_empty(tmp_path: Path) -> None:
    """The window ends 100 minutes ago and has 200 bars; the newest 200 overlap its second half only."""
    series = SeriesId.parse("ohlcv:htx:BTC/USDT:USDT:1m")
    window = window_of(THIS_MINUTE_MS - 300 * MINUTE_MS, THIS_MINUTE_MS - 100 * MINUTE_MS)
    async with open_house(tmp_path, made(Htx), ccxt=Htx.ccxt) as house:
        answer = await house.source.fetch_bars(series, window, RecordingObserver())
        first_ms = THIS_MINUTE_MS - 199 * MINUTE_MS
        assert answer.speaks_from == first_ms * 1000


async def test_days_that_begin_at_another_hour_are_read_as_they_are(tmp_path: Path) -> None:
    """HTX' days begin at 16:00 UTC."""
    at_16_ms = NOW_MS // DAY_MS * DAY_MS - 8 * 60 * MINUTE_MS
    rows: list[Any] = [(at_16_ms - day * DAY_MS, "1", "2", "1", "2", "5") for day in range(50)]
    candles = GivenRows({("BTC/USDT", "1d"): rows})
    window = window_of(at_16_ms - 30 * DAY_MS, at_16_ms)
    async with open_house(tmp_path, made(Htx, candles), ccxt=Htx.ccxt) as house:
        assert (await house.ensure(bars_of(Htx, "1d"), window)).uncovered == ()
        assert len(await house.rows(bars_of(Htx, "1d"), window)) == 30


@pytest.mark.parametrize("series", ["ohlcv:kraken:BTC/USD:2w", "ohlcv:bitstamp:BTC/USD:1w"])
async def test_what_ccxt_calls_by_a_wrong_name_is_not_served(series: str, tmp_path: Path) -> None:
    """Kraken's 21,600 minutes are 15 days, Bitstamp's 259,200 seconds three."""
    async with open_house(tmp_path, made(Bitstamp)) as house:
        with pytest.raises(UnknownTimeframe):
            await house.source.check(SeriesId.parse(series))
