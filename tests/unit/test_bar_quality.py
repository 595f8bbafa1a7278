"""Which rows of an answer are good, which are set aside, which answers are not believed."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.model.rows import BARS
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_S, TimeRange
from historyd.model.timeframe import Timeframe
from historyd.quality.bars import judge_bars

MINUTE = 60 * MICROS_PER_S
GRID = Timeframe.parse("1m").grid()
RAW = pa.schema([pa.field("ts", pa.timestamp("us", tz="UTC")), *list(BARS)[1:]])
WINDOW = TimeRange(100 * MINUTE, 200 * MINUTE)
NAN, INF = float("nan"), float("inf")

Bar = tuple[Any, ...]


def answer(*bars: Bar) -> pa.RecordBatch:
    columns = [list(column) for column in zip(*bars, strict=True)] or [[]] * 6
    return pa.RecordBatch.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, RAW, strict=True)], schema=RAW
    )


def good(minute: int, volume: float | None = 1.0) -> Bar:
    return (minute * MINUTE, 10.0, 12.0, 9.0, 11.0, volume)


NINETEEN_GOOD = [good(minute) for minute in range(100, 119)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((None, 10.0, 12.0, 9.0, 11.0, 1.0), "no_timestamp"),
        ((130 * MINUTE + 1, 10.0, 12.0, 9.0, 11.0, 1.0), "off_grid"),
        ((130 * MINUTE, NAN, 12.0, 9.0, 11.0, 1.0), "not_finite"),
        ((130 * MINUTE, 10.0, 12.0, 9.0, 11.0, INF), "not_finite"),
        ((130 * MINUTE, 10.0, 12.0, 0.0, 11.0, 1.0), "price_not_positive"),
        ((130 * MINUTE, 10.0, 12.0, 9.0, -11.0, 1.0), "price_not_positive"),
        ((130 * MINUTE, 10.0, 10.5, 9.0, 11.0, 1.0), "high_below_body"),
        ((130 * MINUTE, None, 8.0, 9.0, None, 1.0), "high_below_body"),
        ((130 * MINUTE, 10.0, 12.0, 10.5, 11.0, 1.0), "low_above_body"),
        ((130 * MINUTE, 10.0, 12.0, 9.0, 11.0, -1.0), "negative_volume"),
    ],
)
def test_a_row_that_breaks_a_rule_is_set_aside_and_the_others_are_kept(bad: Bar, reason: str) -> None:
    verdict = judge_bars(answer(*NINETEEN_GOOD, bad), WINDOW, GRID)
    (aside,) = verdict.quarantined
    assert (aside.ts, aside.reason) == (bad[0], reason)
    assert json.loads(aside.row)["ts"] == bad[0]
    assert verdict.rows.equals(answer(*NINETEEN_GOOD).cast(BARS))
    assert verdict.believable


@pytest.mark.parametrize("volume", [0.0, None])
def test_a_bar_without_trades_or_without_a_volume_is_good(volume: float | None) -> None:
    verdict = judge_bars(answer(good(150, volume)), WINDOW, GRID)
    assert verdict.quarantined == ()
    assert verdict.rows["volume"].to_pylist() == [volume]


def test_a_bar_of_nulls_breaks_no_rule() -> None:
    verdict = judge_bars(answer((150 * MINUTE, None, None, None, None, None)), WINDOW, GRID)
    assert verdict.rows.num_rows == 1


def test_rows_are_put_in_order_and_equal_doubles_are_dropped() -> None:
    verdict = judge_bars(answer(good(102), good(100), good(102), good(101)), WINDOW, GRID)
    assert verdict.rows["ts"].cast(pa.int64()).to_pylist() == [100 * MINUTE, 101 * MINUTE, 102 * MINUTE]
    assert verdict.quarantined == ()


def test_of_two_rows_that_contradict_each_other_the_later_one_is_kept() -> None:
    first, second = good(100, 1.0), good(100, 2.0)
    verdict = judge_bars(answer(*NINETEEN_GOOD[1:], first, second), WINDOW, GRID)
    assert verdict.rows["volume"].to_pylist()[0] == 2.0
    assert [(aside.ts, aside.reason) for aside in verdict.quarantined] == [(100 * MINUTE, "superseded")]


def test_rows_outside_of_the_window_are_not_judged() -> None:
    outside = (200 * MINUTE, 1.0, 0.5, 2.0, 1.0, -1.0)
    verdict = judge_bars(answer(good(199), outside, good(99)), WINDOW, GRID)
    assert verdict.rows.num_rows == 1
    assert verdict.quarantined == ()
    assert not verdict.ignored_window


def test_an_empty_answer_is_an_answer() -> None:
    verdict = judge_bars(answer(), WINDOW, GRID)
    assert verdict.rows.num_rows == 0
    assert verdict.rows.schema.equals(BARS)
    assert verdict.believable
    assert not verdict.ignored_window


@pytest.mark.parametrize(
    ("minutes", "ignored"), [([300, 301], True), ([50, 51], True), ([50, 300], True), ([150, 300], False)]
)
def test_rows_that_all_lie_outside_mean_that_the_window_was_ignored(minutes: list[int], ignored: bool) -> None:
    verdict = judge_bars(answer(*map(good, minutes)), WINDOW, GRID)
    assert verdict.ignored_window is ignored


@given(st.integers(0, 30), st.integers(0, 4))
def test_an_answer_is_believed_up_to_a_tenth_of_bad_rows(fine: int, broken: int) -> None:
    bad = [(minute * MINUTE, 1.0, 0.5, 1.0, 1.0, 1.0) for minute in range(150, 150 + broken)]
    verdict = judge_bars(answer(*(good(100 + minute) for minute in range(fine)), *bad), WINDOW, GRID)
    assert len(verdict.quarantined) == broken
    assert verdict.believable == (broken * 10 <= fine + broken)


def test_months_are_judged_by_the_calendar() -> None:
    series = SeriesId.parse("ohlcv:binance:BTC/USDT:1M")
    assert series.timeframe is not None
    grid = series.timeframe.grid()
    february, leap_day = grid.time_of(1), grid.time_of(1) + 28 * 86_400 * MICROS_PER_S
    rows = [(february, 10.0, 12.0, 9.0, 11.0, 1.0), (leap_day + 1, 10.0, 12.0, 9.0, 11.0, 1.0)]
    verdict = judge_bars(answer(*rows), TimeRange(0, grid.time_of(12)), grid)
    assert [aside.reason for aside in verdict.quarantined] == ["off_grid"]
