"""The source that replays given bars."""

from __future__ import annotations

import pyarrow as pa
import pytest

from historyd.errors import UnknownExchange, UnknownSymbol, UnknownTimeframe
from historyd.model.rows import BARS
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.sources.replay import ReplaySource
from tests.limiters import RecordingObserver

MINUTE = 60_000_000
SERIES = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")
ROWS = pa.RecordBatch.from_arrays(
    [pa.array([n * MINUTE for n in range(10)], pa.timestamp("us", "UTC")), *[pa.array([1.0] * 10)] * 5], schema=BARS
)


def replay() -> ReplaySource:
    return ReplaySource({str(SERIES): ROWS}, clock=lambda: 77)


async def test_a_window_is_answered_with_its_rows_and_one_call() -> None:
    observer = RecordingObserver()
    answer = await replay().fetch_bars(SERIES, TimeRange(2 * MINUTE, 5 * MINUTE), observer)
    assert answer.rows.equals(ROWS.slice(2, 3))
    assert answer.asked_at == 77
    assert observer.calls == 1


async def test_the_first_bar_and_the_markets_are_those_given() -> None:
    assert await replay().first_bar(SERIES, RecordingObserver()) == 0
    listed = await replay().markets("binance")
    assert [market.symbol for market in listed.markets] == ["BTC/USDT"]
    assert listed.timeframes == ("1m",)


@pytest.mark.parametrize(
    ("series", "error"),
    [
        ("ohlcv:binanse:BTC/USDT:1m", UnknownExchange),
        ("ohlcv:binance:BTC/USDC:1m", UnknownSymbol),
        ("ohlcv:binance:BTC/USDT:5m", UnknownTimeframe),
    ],
)
async def test_what_was_not_given_is_not_found(series: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await replay().fetch_bars(SeriesId.parse(series), TimeRange(0, MINUTE), RecordingObserver())


def test_rows_of_another_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="schema"):
        ReplaySource({str(SERIES): ROWS.select(["ts", "open"])})
