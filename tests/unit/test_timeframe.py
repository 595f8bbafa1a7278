"""Timeframes and the grids of bars that they lay over time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.model.time_range import LATEST, MICROS_PER_DAY, from_datetime, iso
from historyd.model.timeframe import Timeframe, month_of

# fmt: off
CCXT_TIMEFRAMES = [
    "1s", "5s", "10s", "15s", "30s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "3h", "4h", "6h", "8h", "12h",
    "1d", "2d", "3d", "5d", "1w", "2w", "1M", "3M", "6M", "1y",
]
# fmt: on
TIMEFRAMES = st.sampled_from(CCXT_TIMEFRAMES).map(Timeframe.parse)
INSTANTS = st.integers(0, LATEST)
ANCHORS = st.none() | st.integers(0, 10 * 365 * MICROS_PER_DAY)


def at(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize("text", CCXT_TIMEFRAMES)
def test_every_ccxt_timeframe_is_read_and_written(text: str) -> None:
    assert str(Timeframe.parse(text)) == text


@pytest.mark.parametrize("text", ["", "m", "0m", "-1m", "1x", "1 m", "01m", "1mm", "60", "1.5h", "99999m"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="timeframe"):
        Timeframe.parse(text)


@given(TIMEFRAMES, ANCHORS, INSTANTS)
def test_an_instant_lies_in_the_bar_it_is_numbered_by(timeframe: Timeframe, anchor: int | None, instant: int) -> None:
    grid = timeframe.grid(anchor)
    index = grid.index_of(instant)
    assert grid.time_of(index) <= instant < grid.time_of(index + 1)


@given(TIMEFRAMES, ANCHORS, st.integers(-100, 10_000))
def test_open_times_are_fixed_points(timeframe: Timeframe, anchor: int | None, index: int) -> None:
    grid = timeframe.grid(anchor)
    opens = grid.time_of(index)
    assert grid.index_of(opens) == index
    assert grid.floor(opens) == grid.ceil(opens) == opens


@given(TIMEFRAMES, ANCHORS, INSTANTS)
def test_floor_and_ceil_are_the_neighbours(timeframe: Timeframe, anchor: int | None, instant: int) -> None:
    grid = timeframe.grid(anchor)
    floor, ceil = grid.floor(instant), grid.ceil(instant)
    assert floor <= instant <= ceil
    assert grid.index_of(ceil) - grid.index_of(floor) == (floor != instant)


@given(TIMEFRAMES, st.integers(0, 500), st.integers(0, 40), st.integers(-10, 10), st.integers(-10, 10))
def test_count_is_the_number_of_open_times_in_the_range(
    timeframe: Timeframe, first: int, bars: int, off_start: int, off_end: int
) -> None:
    grid = timeframe.grid()
    start, end = grid.time_of(first) + off_start, grid.time_of(first + bars) + off_end
    opens = [grid.time_of(index) for index in range(first - 2, first + bars + 3)]
    assert grid.count(start, end) == sum(start <= time < end for time in opens)


@given(TIMEFRAMES, st.integers(0, 500), st.integers(1, 40), st.integers(0, 10))
def test_back_selects_exactly_so_many_bars(timeframe: Timeframe, first: int, bars: int, off: int) -> None:
    grid = timeframe.grid()
    end = grid.time_of(first) + off
    assert grid.count(grid.back(end, bars), end) == bars


@pytest.mark.parametrize(
    ("timeframe", "instant", "opens"),
    [
        ("1m", "2024-02-29T23:59:59", "2024-02-29T23:59:00Z"),
        ("1w", "2024-01-07T23:00:00", "2024-01-01T00:00:00Z"),  # a Sunday belongs to the Monday before
        ("1w", "2024-01-08T00:00:00", "2024-01-08T00:00:00Z"),
        ("1M", "2024-02-29T12:00:00", "2024-02-01T00:00:00Z"),
        ("3M", "2024-06-30T00:00:00", "2024-04-01T00:00:00Z"),
        ("1y", "2023-12-31T23:59:59", "2023-01-01T00:00:00Z"),
    ],
)
def test_weeks_begin_on_monday_and_months_are_the_calendars(timeframe: str, instant: str, opens: str) -> None:
    assert iso(Timeframe.parse(timeframe).grid().floor(at(instant))) == opens


def test_an_anchor_moves_the_grid() -> None:
    """A venue whose day begins at midnight in UTC+8."""
    grid = Timeframe.parse("1d").grid(at("2020-01-01T16:00:00"))
    assert iso(grid.floor(at("2024-05-05T15:59:59"))) == "2024-05-04T16:00:00Z"
    assert iso(grid.floor(at("2024-05-05T16:00:00"))) == "2024-05-05T16:00:00Z"


@given(st.datetimes(datetime(1900, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_months_agree_with_the_calendar(moment: datetime) -> None:
    month = month_of(from_datetime(moment))
    assert (1970 + month // 12, month % 12 + 1) == (moment.year, moment.month)


def test_grids_go_on_beyond_the_last_year_of_datetime() -> None:
    grid = Timeframe.parse("1y").grid()
    assert grid.time_of(grid.index_of(LATEST) + 500) > LATEST
