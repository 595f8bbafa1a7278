"""How windows of bars are told to venues where ccxt, left alone, would tell them wrong."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from tests.venues.binance import Binance
from tests.venues.bybit import Bybit
from tests.venues.house import MINUTE_MS, NOW_MS, bars_of, open_house, window_of
from tests.venues.okx import Okx
from tests.venues.tape import Tape, Traded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.venues.serving import Dialect

importlib.import_module("ccxt.async_support")  # seconds that belong to no test

DAY_MS = 1440 * MINUTE_MS
OLD = Traded(NOW_MS - 3000 * DAY_MS)


def made(kind: type[Dialect], *more: str) -> Dialect:
    return kind(Tape((kind.spot, *more), OLD), clock=lambda: NOW_MS)


@pytest.mark.parametrize("kind", [Binance, Okx, Bybit])
@pytest.mark.parametrize("timeframe", ["1d", "1w", "1M"])
async def test_no_bar_of_a_wide_timeframe_is_lost(kind: type[Dialect], timeframe: str, tmp_path: Path) -> None:
    """ccxt rounds Bybit's start up to multiples of the width since 1970, no Monday and no first of a month.

    Small pages: what is lost is the first bar of each.
    """
    series = bars_of(kind, timeframe)
    window = window_of(NOW_MS - 900 * DAY_MS, NOW_MS - 40 * DAY_MS)
    async with open_house(tmp_path, made(kind), window_size=20) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        rows = await house.rows(series, window)
        assert rows == house.expected(series, window.start // 1000, window.end // 1000)
        assert len(rows) >= 28


async def test_old_bars_of_okx_come_from_its_history_whatever_the_hosts_clock_says(tmp_path: Path) -> None:
    """Its other endpoint reaches back 1,440 bars and is silent about those before."""
    async with open_house(tmp_path, made(Okx)) as house:
        series = bars_of(Okx)
        await house.ensure(series, window_of(NOW_MS - 1300 * MINUTE_MS, NOW_MS - 1299 * MINUTE_MS))
        await house.ensure(series, window_of(NOW_MS - 20 * MINUTE_MS, NOW_MS - 10 * MINUTE_MS))
        asked = [call.path.rpartition("/")[2] for call in house.venue.bar_calls]
        assert list(dict.fromkeys(asked)) == ["history-candles", "candles"]  # each maybe twice, over a page's edge


@pytest.mark.parametrize("kind", [Okx, Bybit])
async def test_spot_symbols_do_not_wait_for_the_lists_of_contracts(kind: type[Dialect], tmp_path: Path) -> None:
    async with open_house(tmp_path, made(kind, "BTC/USDT:USDT")) as house:
        await house.ensure(bars_of(kind), window_of(NOW_MS - 20 * MINUTE_MS, NOW_MS - 10 * MINUTE_MS))
        assert house.venue.count(kind.markets_tail) == 1


async def test_binances_perpetuals_pay_at_a_host_of_their_own(tmp_path: Path) -> None:
    async with open_house(tmp_path, made(Binance, "BTC/USDT:USDT")) as house:
        perpetual = type(bars_of(Binance)).parse("ohlcv:binance:BTC/USDT:USDT:1m")
        window = window_of(NOW_MS - 400 * MINUTE_MS, NOW_MS - 300 * MINUTE_MS)
        assert (await house.ensure(perpetual, window)).uncovered == ()
        assert len(await house.rows(perpetual, window)) == 100
        futures = house.limiters["binance", "fapi"]
        assert len(futures.costs) == len([call for call in house.venue.calls if call.path.startswith("/fapi")])
