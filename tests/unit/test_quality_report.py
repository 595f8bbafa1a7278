"""The daily report, against a naive one that looks at every bar of the grid by itself."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from historyd.coverage import Covered, Span, State, Unreachable, tile
from historyd.model.rows import Quarantined
from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_S, TimeRange
from historyd.model.timeframe import FixedGrid, Timeframe
from historyd.quality.report import Bars, Day, day_of_bars, day_of_trades, days_of, outlying, zero_runs

HOUR = 3600 * MICROS_PER_S
GRID = FixedGrid(HOUR, 0)
DAY = TimeRange(10 * MICROS_PER_DAY, 11 * MICROS_PER_DAY)
HOURS = [DAY.start + hour * HOUR for hour in range(24)]
NONE = np.zeros(0)


def bars(rows: dict[int, tuple[float, float]], base: list[float] | None = None) -> Bars:
    """Bars by open time: close and volume."""
    times = sorted(rows)
    return Bars(
        np.array(times, np.int64),
        np.array([rows[at][0] for at in times], float),
        np.array([rows[at][1] for at in times], float),
        np.array(base or [], float),
    )


# What of a day's 24 hours is: stored with a volume or without, confirmed empty, spoiled, missing, ...
KINDS = st.lists(
    st.sampled_from(["row", "zero", "null", "empty", "spoiled", "missing", "unreachable"]), min_size=24, max_size=24
)


@given(KINDS, st.integers(0, 24), st.integers(0, 23))
def test_every_bar_of_the_grid_is_counted_as_what_it_is(kinds: list[str], closed: int, first: int) -> None:
    """Also where the day is clipped, and whatever has not closed is pending and nothing else."""
    kinds = [kind if hour < closed else "pending" for hour, kind in enumerate(kinds)]
    day = TimeRange(DAY.start + first * HOUR, DAY.end)
    own = {at: kind for at, kind in zip(HOURS, kinds, strict=True) if at in day}
    volumes = {"row": 1.0, "zero": 0.0, "null": math.nan}
    report = day_of_bars(
        day,
        GRID,
        tiles(kinds, closed),
        bars({at: (1.0, volumes[kind]) for at, kind in own.items() if kind in volumes}),
        [Quarantined(at, "not_finite", "{}", at) for at, kind in own.items() if kind == "spoiled"],
        revised=3,
    )
    count = {kind: list(own.values()).count(kind) for kind in ("empty", "spoiled", "missing", "unreachable", "pending")}
    rows = sum(kind in volumes for kind in own.values())
    assert {kind: getattr(report, kind) for kind in count} == count
    assert report.rows == rows
    assert report.expected == rows + count["spoiled"] + count["missing"] + count["unreachable"]
    assert report.expected + report.empty + report.pending == GRID.count(day.start, day.end)
    runs = naive_runs(list(own.values()))
    assert (report.zero_volume_runs, report.zero_volume) == (len(runs), sum(runs))
    assert report.longest_zero_volume_run == max(runs, default=0)
    assert (report.quarantined, report.revised) == ({"not_finite": count["spoiled"]} if count["spoiled"] else {}, 3)


def tiles(kinds: list[str], closed: int) -> list[Span]:
    """Coverage that says so, a span for each hour."""
    covered = {"row", "zero", "null", "empty", "spoiled"}
    hours = [TimeRange(at, at + HOUR) for at in HOURS]
    facts = [Covered(hour, 1, 0) for hour, kind in zip(hours, kinds, strict=True) if kind in covered]
    beyond = [Unreachable(hour, "too deep") for hour, kind in zip(hours, kinds, strict=True) if kind == "unreachable"]
    return tile(DAY, facts, DAY.start + closed * HOUR, beyond)


def naive_runs(kinds: list[str]) -> list[int]:
    runs, length = [], 0
    for kind in [*kinds, "end"]:
        if kind == "zero":
            length += 1
        elif length:
            runs.append(length)
            length = 0
    return runs


@st.composite
def walks(draw: st.DrawFn) -> list[float]:
    """Closes that move by little, and now and then by about as much as makes an outlier; some are not given."""
    calm = st.sampled_from([0.0, 0.001, -0.001, 0.002, -0.003])
    wild = st.floats(0.005, 0.06) | st.just(-0.5) | st.just(math.nan)
    steps = draw(st.lists(calm, min_size=15, max_size=60))
    for place, step in draw(st.dictionaries(st.integers(0, 59), wild, max_size=4)).items():
        steps[place : place + 1] = [step]
    price, closes = 100.0, []
    for step in steps:
        price *= 1.0 if math.isnan(step) else math.exp(step)
        closes.append(math.nan if math.isnan(step) else price)
    return closes


@settings(max_examples=200)
@given(walks(), st.integers(0, 40))
def test_outliers_are_those_of_the_rule(closes: list[float], before: int) -> None:
    base, closes = closes[:before], closes[before:]
    rows = {at * HOUR: (close, 1.0) for at, close in enumerate(closes)}
    found, wanted = outlying(bars(rows, base)).tolist(), naive_outliers(base, closes)
    assert found == wanted
    event(f"{sum(wanted)} outliers")


def naive_outliers(base: list[float], closes: list[float]) -> list[bool]:
    returns: list[tuple[int, float]] = []
    before = None
    for place, close in enumerate([*base, *closes]):
        if not math.isnan(close):
            if before is not None:
                returns.append((place, float(np.log(close) - np.log(before))))
            before = close
    found = [False] * len(closes)
    if len(returns) < 20:
        return found
    middle = median(r for _, r in returns)
    away = [(place, abs(r - middle)) for place, r in returns]
    spread = 0.608 * percentile_90([far for _, far in away]) or 1.2533 * float(np.mean([far for _, far in away]))
    for place, far in away:
        if place >= len(base) and far > 10 * spread:
            found[place - len(base)] = True
    return found


def percentile_90(values: list[float]) -> float:
    """Between the two values that are next to it, in proportion."""
    ordered = sorted(values)
    place = 0.9 * (len(ordered) - 1)
    below = ordered[int(place)]
    return below + (ordered[min(int(place) + 1, len(ordered) - 1)] - below) * (place % 1)


def test_a_spike_is_an_outlier_on_its_way_up_and_on_its_way_down() -> None:
    calm = [100.0 + hour % 3 for hour in range(24)]
    spiked = [*calm[:12], 1000.0, *calm[13:]]
    assert not outlying(bars({at: (close, 1.0) for at, close in zip(HOURS, calm, strict=True)})).any()
    found = outlying(bars({at: (close, 1.0) for at, close in zip(HOURS, spiked, strict=True)}))
    assert np.flatnonzero(found).tolist() == [12, 13]


def test_a_day_of_one_bar_is_held_against_the_days_before() -> None:
    past = [100.0 + day % 5 for day in range(100)]
    assert outlying(bars({DAY.start: (10_000.0, 1.0)}, past)).tolist() == [True]
    assert outlying(bars({DAY.start: (103.0, 1.0)}, past)).tolist() == [False]
    assert outlying(bars({DAY.start: (10_000.0, 1.0)})).tolist() == [False]


def test_a_market_that_stands_still_has_outliers_only_far_out() -> None:
    """Nearly all returns are 0, and so is the 90th percentile of their distances."""
    still = [100.0 + step // 40 * 0.1 for step in range(400)]
    assert outlying(bars({DAY.start: (100.9, 1.0)}, [*still])).tolist() == [False]
    assert outlying(bars({DAY.start: (150.0, 1.0)}, [*still])).tolist() == [True]


@given(st.integers(0, 5 * MICROS_PER_DAY), st.integers(1, 5 * MICROS_PER_DAY))
def test_days_tile_the_range(start: int, width: int) -> None:
    window = TimeRange(start, start + width)
    days = list(days_of(window))
    assert (days[0].start, days[-1].end) == (window.start, window.end)
    assert all(left.end == right.start and left.end % MICROS_PER_DAY == 0 for left, right in pairwise(days))


@pytest.mark.parametrize(
    ("bad", "spoiled"),
    [
        (Quarantined(HOURS[3], "negative_volume", "{}", HOURS[3]), 1),
        (Quarantined(HOURS[1], "superseded", "{}", HOURS[1]), 0),
        (Quarantined(HOURS[3] + 1, "off_grid", "{}", HOURS[3] + 1), 0),
        (Quarantined(None, "no_timestamp", "{}", HOURS[3]), 0),
    ],
)
def test_a_bar_is_spoiled_if_nothing_but_quarantined_rows_is_there(bad: Quarantined, spoiled: int) -> None:
    report = day_of_bars(DAY, GRID, [Span(DAY, State.COVERED, 1)], bars({HOURS[1]: (1.0, 1.0)}), [bad, bad], 0)
    assert (report.spoiled, report.empty, report.expected) == (spoiled, 23 - spoiled, 1 + spoiled)
    assert report.quarantined == {bad.reason: 2}


def test_runs_of_months_follow_the_calendar() -> None:
    grid = Timeframe.parse("1M").grid()
    times = np.array([grid.time_of(month) for month in (0, 1, 2, 4)], np.int64)
    assert zero_runs(times, np.zeros(4), grid) == [3, 1]


def test_of_trades_time_is_told_in_milliseconds_and_nothing_of_bars() -> None:
    spans: list[Any] = [Span(TimeRange(DAY.start, DAY.start + HOUR), State.COVERED, 7)]
    spans.append(Span(TimeRange(DAY.start + HOUR, DAY.end), State.MISSING))
    assert day_of_trades(DAY, spans, 7, [], 2) == Day(DAY, rows=7, missing=23 * 3_600_000, revised=2)
