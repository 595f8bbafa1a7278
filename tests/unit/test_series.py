"""Series ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.errors import InvalidSeries
from historyd.model.series import Kind, SeriesId
from historyd.model.timeframe import Timeframe

SYMBOLS = st.from_regex(r"[A-Z0-9]{1,8}/[A-Z0-9]{1,8}(:[A-Z]{1,5}(-[0-9]{6})?)?", fullmatch=True)
EXCHANGES = st.from_regex(r"[a-z0-9_]{1,20}", fullmatch=True)
TIMEFRAMES = st.sampled_from(["1s", "1m", "4h", "1d", "1w", "1M", "1y"])


@given(EXCHANGES, SYMBOLS, TIMEFRAMES)
def test_an_id_of_bars_survives_the_round_trip(exchange: str, symbol: str, timeframe: str) -> None:
    text = f"ohlcv:{exchange}:{symbol}:{timeframe}"
    series = SeriesId.parse(text)
    assert series == SeriesId(Kind.OHLCV, exchange, symbol, Timeframe.parse(timeframe))
    assert str(series) == text


@given(EXCHANGES, SYMBOLS)
def test_an_id_of_trades_survives_the_round_trip(exchange: str, symbol: str) -> None:
    text = f"trades:{exchange}:{symbol}"
    series = SeriesId.parse(text)
    assert series == SeriesId(Kind.TRADES, exchange, symbol)
    assert str(series) == text


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("ohlcv:binance:BTC/USDT:USDT:1m", "BTC/USDT:USDT"),
        ("ohlcv:okx:BTC/USD:BTC-240628:1h", "BTC/USD:BTC-240628"),
        ("trades:binance:BTC/USDT:USDT", "BTC/USDT:USDT"),
    ],
)
def test_a_symbol_may_hold_colons(text: str, symbol: str) -> None:
    assert SeriesId.parse(text).symbol == symbol


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ohlcv",
        "ohlcv:binance",
        "ohlcv:binance:BTC/USDT",  # its last part is no timeframe
        "ohlcv:binance::1m",
        "ohlcv::BTC/USDT:1m",
        "ohlcv:Binance:BTC/USDT:1m",
        "ohlcv:binance:BTC USDT:1m",
        "ohlcv:binance:BTC/USDT:7x",
        "ohlcv:binance:BTC/USDT:0m",
        "candles:binance:BTC/USDT:1m",
        "trades:binance:",
        "trades:binance:BTC\n/USDT",
        "ohlcv:binance:*/USDT:1m",
        "ohlcv:binance:" + "X" * 300 + ":1m",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidSeries) as refused:
        SeriesId.parse(text)
    assert refused.value.metadata["field"] == "series"


@given(st.text(max_size=300))
def test_reading_never_fails_in_another_way(text: str) -> None:
    try:
        series = SeriesId.parse(text)
    except InvalidSeries:
        return
    assert str(series) == text
