"""The made-up candles of the loopback exchange, and given ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.demo.candles import Candle, GivenRows, RandomWalk

DAY_MS = 86_400_000
START_MS = 1_704_067_200_000
MINUTE_MS = 60_000
ROWS: list[Candle] = [(START_MS + n * MINUTE_MS, "1", "2", "0.5", "1.5", str(n)) for n in range(10)]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHBTC", "WHATEVER"])
@pytest.mark.parametrize("interval", ["1s", "1m", "4h", "1d", "1w", "1M"])
def test_made_up_candles_keep_the_rules_of_candles(symbol: str, interval: str) -> None:
    bars = RandomWalk().bars(symbol, interval, START_MS, START_MS + 3000 * DAY_MS, 100)
    assert len(bars) > 90
    for _, *cells in bars:
        opened, high, low, close, volume = map(float, (cell or "nan" for cell in cells))
        assert 0 < low <= min(opened, close)
        assert high >= max(opened, close)
        assert volume >= 0


def test_a_bar_opens_where_the_one_before_it_closed() -> None:
    bars = RandomWalk().bars("BTCUSDT", "1m", START_MS, START_MS + DAY_MS, 1000)
    assert [bar[1] for bar in bars[1:]] == [bar[4] for bar in bars[:-1]]


def test_timeframes_agree_on_opens_and_closes() -> None:
    walk = RandomWalk()
    minutes = walk.bars("BTCUSDT", "1m", START_MS, START_MS + DAY_MS - 1, 1440)
    hours = walk.bars("BTCUSDT", "1h", START_MS, START_MS + DAY_MS - 1, 24)
    assert [bar[1] for bar in hours] == [bar[1] for bar in minutes[::60]]
    assert [bar[4] for bar in hours] == [bar[4] for bar in minutes[59::60]]


@given(st.integers(0, 900), st.integers(1, 100))
def test_any_window_shows_the_same_history(skip: int, count: int) -> None:
    walk = RandomWalk()
    whole = walk.bars("ETHUSDT", "1m", START_MS, START_MS + DAY_MS, 1000)
    assert walk.bars("ETHUSDT", "1m", START_MS + skip * MINUTE_MS, START_MS + DAY_MS, count) == whole[skip:][:count]


def test_nothing_opens_before_the_listing_or_in_an_outage() -> None:
    hole = (START_MS + 10 * MINUTE_MS, START_MS + 20 * MINUTE_MS)
    walk = RandomWalk(listed_ms=START_MS + 1, outages_ms=(hole,))
    opens = [bar[0] for bar in walk.bars("BTCUSDT", "1m", 0, START_MS + DAY_MS, 30)]
    assert opens[0] == START_MS + MINUTE_MS
    assert opens == [START_MS + n * MINUTE_MS for n in range(1, 41) if not 10 <= n < 20]


@pytest.mark.parametrize("candles", [RandomWalk(), GivenRows({("BTCUSDT", "1m"): ROWS})])
def test_the_last_bars_are_the_ends_of_the_first_ones(candles: RandomWalk | GivenRows) -> None:
    end_ms = START_MS + 9 * MINUTE_MS
    assert candles.last("BTCUSDT", "1m", end_ms, 4) == candles.bars("BTCUSDT", "1m", START_MS, end_ms, 10)[6:]
    assert candles.last("BTCUSDT", "1m", end_ms - 1, 1) == candles.bars("BTCUSDT", "1m", START_MS, end_ms, 10)[8:9]


def test_given_rows_are_served_by_open_time_with_both_ends() -> None:
    given_rows = GivenRows({("BTCUSDT", "1m"): reversed(ROWS)})
    assert given_rows.bars("BTCUSDT", "1m", ROWS[2][0], ROWS[5][0], 100) == ROWS[2:6]
    assert given_rows.bars("BTCUSDT", "1m", ROWS[2][0] + 1, ROWS[5][0] - 1, 100) == ROWS[3:5]
    assert given_rows.bars("BTCUSDT", "1m", 0, ROWS[5][0], 3) == ROWS[:3]
    assert given_rows.bars("ETHUSDT", "1m", 0, ROWS[5][0], 3) == []
