"""The planner against an oracle that looks at every bar."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from historyd.coverage import Covered, Fact, Unreachable, merge
from historyd.model.page import Layout, Pages
from historyd.model.series import SeriesId
from historyd.model.time_range import EARLIEST, MICROS_PER_DAY, MICROS_PER_S, TimeRange, iso
from historyd.model.venue import Venue
from historyd.planner import Horizon, plan
from tests.unit.test_coverage import RANGES, SIZE, disjoint, instants

MINUTE = 60 * MICROS_PER_S
SERIES = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")
MONTHS = SeriesId.parse("ohlcv:binance:BTC/USDT:1M")


def minutes(span: TimeRange) -> TimeRange:
    return TimeRange(span.start * MINUTE, span.end * MINUTE)


@st.composite
def covered_minutes(draw: st.DrawFn) -> list[Covered]:
    return merge([Fact(minutes(span), 10**15, draw(st.integers(0, 2))) for span in draw(disjoint())])


PAGES = st.integers(1, 7).map(lambda bars: Pages.of(SERIES, Layout(bars)))
HORIZONS = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(
    lambda pair: Horizon(pair[0] * MINUTE, pair[1] * MINUTE)
)


def bars(window: TimeRange) -> set[int]:
    grid = Pages.of(SERIES, Layout(1)).grid
    return set(range(grid.index_of(window.start + MINUTE - 1), grid.index_of(window.end + MINUTE - 1)))


@given(covered_minutes(), RANGES.map(minutes), PAGES, HORIZONS)
def test_what_is_fetched_and_what_is_covered_make_the_range_whole(
    covered: list[Covered], wanted: TimeRange, pages: Pages, horizon: Horizon
) -> None:
    missing = plan(covered, wanted, pages, horizon, venue_now=10**15)
    fetched = set().union(*(bars(window) for window in missing.windows()))
    known = set().union(*(bars(span.range) for span in covered))
    reachable = horizon.clip(wanted)
    assert fetched | known >= (bars(reachable) if reachable else set())


@given(covered_minutes(), RANGES.map(minutes), PAGES, HORIZONS)
def test_windows_are_whole_pages_cut_by_the_horizon_and_each_is_needed(
    covered: list[Covered], wanted: TimeRange, pages: Pages, horizon: Horizon
) -> None:
    missing = plan(covered, wanted, pages, horizon, venue_now=10**15)
    windows = list(missing.windows())
    assert len(windows) == missing.page_count
    assert all(left.end <= right.start for left, right in pairwise(windows))
    for window in windows:
        assert window == horizon.clip(pages.at(pages.number_of(window.start)))
        assert any(window.overlaps(gap) for gap in missing.gaps)


@given(covered_minutes(), RANGES.map(minutes), PAGES, HORIZONS)
def test_once_fetched_nothing_is_missing(
    covered: list[Covered], wanted: TimeRange, pages: Pages, horizon: Horizon
) -> None:
    missing = plan(covered, wanted, pages, horizon, venue_now=10**15)
    everything = [Covered(window, 1, 10**15) for window in missing.windows()] + covered
    again = plan(sorted(everything, key=lambda span: span.range), wanted, pages, horizon, venue_now=10**15)
    assert again.gaps == ()
    assert list(again.windows()) == []


@given(covered_minutes(), RANGES.map(minutes), PAGES, HORIZONS)
def test_a_refresh_believes_only_what_was_asked_since(
    covered: list[Covered], wanted: TimeRange, pages: Pages, horizon: Horizon
) -> None:
    refresh = plan(covered, wanted, pages, horizon, venue_now=10**15, believed_since=10**15 + 1)
    reachable = horizon.clip(wanted)
    assert refresh.gaps == ((reachable,) if reachable else ())
    believed = plan(covered, wanted, pages, horizon, venue_now=10**15, believed_since=10**15)
    assert believed.gaps == plan(covered, wanted, pages, horizon, venue_now=10**15).gaps


@given(RANGES.map(minutes), disjoint(), PAGES)
def test_what_the_venue_did_not_serve_is_no_gap(wanted: TimeRange, holes: list[TimeRange], pages: Pages) -> None:
    horizon = Horizon(0, SIZE * MINUTE)
    skipped = [Unreachable(minutes(hole), "") for hole in holes]
    missing = plan([], wanted, pages, horizon, venue_now=10**15, unreachable=skipped)
    expected = bars(wanted) - set().union(*(bars(hit.range) for hit in skipped))
    assert set().union(*(bars(gap) for gap in missing.gaps)) == expected


def test_an_empty_page_asked_too_early_is_asked_once_more() -> None:
    pages = Pages.of(SERIES, Layout(10))
    window = pages.at(0)
    horizon = Horizon(EARLIEST, 10**9 * MINUTE)
    too_early = merge([Fact(window, window.end + 5 * MINUTE, 0)])
    tomorrow = window.end + MICROS_PER_DAY
    assert plan(too_early, window, pages, horizon, venue_now=tomorrow - 1).gaps == ()
    assert plan(too_early, window, pages, horizon, venue_now=tomorrow).gaps == (window,)
    once_more = merge([Fact(window, tomorrow, 0)])
    assert plan(once_more, window, pages, horizon, venue_now=tomorrow * 2).gaps == ()


def test_the_open_bar_and_the_settle_delay_are_beyond_the_horizon() -> None:
    venue = Venue("binance", bar_settle=2 * MICROS_PER_S)
    grid = Pages.of(SERIES, Layout(10)).grid
    just_closed = 100 * MINUTE + 2 * MICROS_PER_S
    assert Horizon.of(venue, SERIES, grid, just_closed).closed_through == 100 * MINUTE
    assert Horizon.of(venue, SERIES, grid, just_closed - 1).closed_through == 99 * MINUTE


def test_trades_settle_by_their_own_delay() -> None:
    venue = Venue("binance", trade_settle=60 * MICROS_PER_S, depth_bars=720)
    trades = SeriesId.parse("trades:binance:BTC/USDT")
    grid = Pages.of(trades, Layout(3_600_000)).grid
    horizon = Horizon.of(venue, trades, grid, 100 * MINUTE)
    assert horizon == Horizon(EARLIEST, 99 * MINUTE)
    assert horizon.unreachable(venue, trades) == []


def test_a_venue_of_little_depth_serves_only_its_last_bars() -> None:
    venue = Venue("kraken", depth_bars=720)
    pages = Pages.of(SERIES, Layout(720))
    horizon = Horizon.of(venue, SERIES, pages.grid, 10_000 * MINUTE + venue.bar_settle)
    assert horizon == Horizon((10_000 - 719) * MINUTE, 10_000 * MINUTE), "the open bar is one of the 720"
    (beyond,) = horizon.unreachable(venue, SERIES)
    assert beyond.range == TimeRange(EARLIEST, horizon.reachable_from)
    assert beyond.reason == "kraken serves only the last 720 bars of 1m"
    windows = list(plan([], TimeRange(0, 10_000 * MINUTE), pages, horizon, venue_now=10**15).windows())
    assert windows[0].start == horizon.reachable_from
    assert windows[-1].end == horizon.closed_through


def test_a_plan_costs_what_its_gaps_cost() -> None:
    """A thousand years of seconds are planned without listing their pages."""
    seconds = SeriesId.parse("ohlcv:binance:BTC/USDT:1s")
    pages = Pages.of(seconds, Layout(1000))
    end = 365_000 * MICROS_PER_DAY
    missing = plan([], TimeRange(0, end), pages, Horizon(0, end), venue_now=end)
    assert missing.page_count == 31_536_000
    assert next(missing.windows()) == pages.at(0)


def test_pages_of_months_are_calendar_months() -> None:
    pages = Pages.of(MONTHS, Layout(12))
    assert [iso(page.start) for page in pages.touching(TimeRange(0, 800 * MICROS_PER_DAY))] == [
        "1970-01-01T00:00:00Z",
        "1971-01-01T00:00:00Z",
        "1972-01-01T00:00:00Z",
    ]


@given(RANGES, st.integers(1, 7))
def test_pages_touching_a_window_tile_it(window: TimeRange, page_bars: int) -> None:
    pages = list(Pages.of(SERIES, Layout(page_bars)).touching(minutes(window)))
    assert all(left.end == right.start for left, right in pairwise(pages))
    assert all(page.overlaps(minutes(window)) for page in pages)
    assert instants([TimeRange(page.start // MINUTE, page.end // MINUTE) for page in pages]) >= instants([window])
