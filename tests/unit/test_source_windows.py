"""How the CCXT source cuts a window into calls."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from historyd.model.time_range import MICROS_PER_DAY, TimeRange
from historyd.model.timeframe import Timeframe
from historyd.sources.windows import bars_to_ask_for, parts

START = 1_704_067_200_000_000
FRAMES = ["1s", "1m", "4h", "1d", "3d", "1w", "1M", "3M", "1y"]
CCXT_DAYS = {"M": 30, "y": 365}


@given(
    st.sampled_from(FRAMES), st.integers(1, 1500), st.integers(1, 4000), st.sampled_from([None, 200 * MICROS_PER_DAY])
)
def test_parts_tile_the_window_and_none_asks_for_more_than_a_page(
    frame: str, page_bars: int, bars: int, longest: int | None
) -> None:
    timeframe = Timeframe.parse(frame)
    grid = timeframe.grid()
    last = grid.index_of(START)
    window = TimeRange(grid.time_of(last - bars), grid.time_of(last))
    cut = list(parts(window, timeframe, page_bars, longest))
    assert (cut[0].start, cut[-1].end) == (window.start, window.end)
    assert all(left.end == right.start for left, right in itertools.pairwise(cut))
    for part in cut:
        count = grid.count(part.start, part.end)
        assert 1 <= count <= bars_to_ask_for(part, timeframe) <= max(page_bars, 2)
        assert longest is None or part.width <= longest or count == 1
        if timeframe.unit in CCXT_DAYS:  # then ccxt's own end of the window is not before ours
            by_ccxt = bars_to_ask_for(part, timeframe) * timeframe.count * CCXT_DAYS[timeframe.unit] * MICROS_PER_DAY
            assert part.start + by_ccxt >= part.end


def test_a_page_on_a_grid_of_another_anchor_is_one_part() -> None:
    """Weeks that begin on Thursday."""
    thursday, week = 1_577_923_200_000_000, 7 * MICROS_PER_DAY
    window = TimeRange(thursday, thursday + 100 * week)
    assert list(parts(window, Timeframe.parse("1w"), 100)) == [window]
    assert bars_to_ask_for(window, Timeframe.parse("1w")) == 100


def test_the_longest_window_holds_on_any_grid() -> None:
    """Binance's recorded reply to a longer one: `-4088 Maximum time interval is 200 days`."""
    for start in (START, START + 7):
        window = TimeRange(start, start + 499 * MICROS_PER_DAY)
        cut = list(parts(window, Timeframe.parse("1d"), 1000, 200 * MICROS_PER_DAY))
        assert [part.width // MICROS_PER_DAY for part in cut] == [200, 200, 99]
