"""Real candles, served in the venue's dialect, go through the whole and come back equal; the second ask is free."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from historyd.demo.candles import GivenRows
from tests import realdata
from tests.e2e.whole import rows_of, whole
from tests.source_lab import floats

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.demo.candles import Candle

pytestmark = realdata.needed

WIDTHS = {"1m": timedelta(minutes=1), "4h": timedelta(hours=4), "1h": timedelta(hours=1), "1d": timedelta(days=1)}


def klines_recorded() -> list[Candle]:
    """Binance's own recorded reply for daily klines, as rows."""
    replies = realdata.recorded_replies("binance")["/api/v3/klines"]
    rows = {row[0]: tuple(row[:6]) for query, body in replies if query.get("interval") == "1d" for row in body}
    return [rows[at] for at in sorted(rows)]


def recordings() -> dict[str, tuple[str, Any]]:
    if not realdata.available():
        return {}
    return {
        "lean, binance minutes": ("1m", realdata.lean_minutes("binance-minute-btcbusd-20221213_trade")),
        "lean, bybit minutes": ("1m", realdata.lean_minutes("bybit-minute-btcusdt-20221213_trade")),
        "ta4j, nine years of four hours": ("4h", realdata.coinbase_four_hours()),
        "gocryptotrader, recorded binance days": ("1d", klines_recorded()),
    }


@pytest.mark.parametrize(("timeframe", "candles"), recordings().values(), ids=recordings())
async def test_real_candles_come_back_equal_row_by_row(
    tmp_path: Path, store: dict[str, Any], timeframe: str, candles: list[Candle]
) -> None:
    assert len(candles) > 1
    start = datetime.fromtimestamp(candles[0][0] / 1000, UTC) - timedelta(days=1)
    end = datetime.fromtimestamp(candles[-1][0] / 1000, UTC) + WIDTHS[timeframe]
    series = f"ohlcv:binance:BTC/USDT:{timeframe}"
    async with whole(tmp_path, GivenRows({("BTCUSDT", timeframe): candles})) as it:
        table = await it.client.read(series, start, end, require_complete=True)
        assert rows_of(table) == floats(candles)
        calls = len(it.exchange.calls)
        again = await it.client.read(series, start, end, require_complete=True)
        assert again.equals(table)
        result = await it.client.ensure(series, start, end)
        assert result.call_count == 0
        assert len(it.exchange.calls) == calls
