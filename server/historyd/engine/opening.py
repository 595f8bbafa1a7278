"""Makes a series ready to be written: it exists at the exchange, its layout is fixed, its listing is known.

What is learned here is kept in the store, as the layout and as a fact (before its first bar the series is empty), so
that a range which begins years before the listing costs one call once, and none ever again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from historyd.coverage import RECHECK_DELAY, Fact, subtract
from historyd.model.page import TRADE_PAGE_MS, Layout, Pages
from historyd.model.rows import EMPTY
from historyd.model.time_range import EARLIEST, between
from historyd.model.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.engine.backfill import Probes
    from historyd.engine.retrying import Retrying
    from historyd.engine.singleflight import Flight
    from historyd.model.series import SeriesId
    from historyd.sources.base import Source
    from historyd.stores.base import Store

_USUAL_GRID = Timeframe.parse("1h").nominal_width
"""Bars up to this width open on the same grid everywhere; wider ones depend on where the venue's day begins."""


class Opener:
    """Opens series for writing."""

    def __init__(
        self, store: Store, source: Source, retrying: Retrying, probes: Probes, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._source = source
        self._retrying = retrying
        self._probes = probes
        self._clock = clock

    async def open(self, series: SeriesId, flight: Flight[Layout]) -> Layout:
        """Opens a series; the first time ever, asks the exchange whether it exists and where it begins.

        Raises what the source raises once the retries are spent, OriginMismatch, or what the store raises.
        """
        layout = await self._store.layout(series)
        if layout is not None:
            origin = self._source.origin(series.exchange)
            return await self._store.open_series(series, origin, layout)
        policy = self._source.retry_policy(series.exchange)
        await self._retrying.call(policy, flight, lambda: self._source.check(series))
        origin = self._source.origin(series.exchange)
        if series.timeframe is None:
            # Where trades begin may take a dozen calls to learn, which only a long range is worth.
            return await self._store.open_series(series, origin, Layout(TRADE_PAGE_MS))
        first = await self._first_bar(series, flight)
        layout = await self._store.open_series(series, origin, self._choose_layout(series, first))
        if first is not None:
            await self._keep_listing(series, layout, first)
        return layout

    async def learn_listing(self, series: SeriesId, flight: Flight[Layout]) -> Layout:
        """Asks where an open series begins, and keeps it. Raises as `open`."""
        layout = await self.open(series, flight)
        if series.timeframe is None:
            await self._learn_before_trades(series, layout, flight)
            return layout
        first = await self._first_bar(series, flight)
        if first is not None:
            await self._keep_listing(series, layout, first)
        return layout

    async def _first_bar(self, series: SeriesId, flight: Flight[Layout]) -> int | None:
        policy = self._source.retry_policy(series.exchange)
        return await self._retrying.call(policy, flight, lambda: self._source.first_bar(series, flight))

    async def _learn_before_trades(self, series: SeriesId, layout: Layout, flight: Flight[Layout]) -> None:
        policy = self._source.retry_policy(series.exchange)
        answer = await self._retrying.call(policy, flight, lambda: self._source.before_trades(series, flight))
        if answer is None:
            return
        if answer.unreachable is not None:
            self._probes.add(series, answer.unreachable.range, answer.unreachable.reason)
        if answer.covered is not None:
            await self._keep_listing(series, layout, answer.covered.end)

    def _choose_layout(self, series: SeriesId, first: int | None) -> Layout:
        venue = self._source.venue(series.exchange)
        timeframe = series.timeframe
        assert timeframe is not None
        anchor = venue.anchors.get(str(timeframe))
        if anchor is None and timeframe.nominal_width > _USUAL_GRID:
            anchor = first
        return Layout(venue.page_bars, anchor)

    async def _keep_listing(self, series: SeriesId, layout: Layout, first: int) -> None:
        """Commits that there is nothing before the page of the first bar or trade.

        Never up to within a day of now: an empty answer that young is asked for again, page by page.
        """
        asked_at = self._clock()
        pages = Pages.of(series, layout)
        last_page = pages.at(pages.number_of(min(first, asked_at - 2 * RECHECK_DELAY)))
        before = between(EARLIEST, last_page.start)
        if before is None:
            return
        # What is stored outlives what the venue serves: of that nothing is taken back.
        known = [span.range for span in await self._store.coverage(series, before)]
        for part in subtract(before, known):
            await self._store.commit(series, Fact(part, asked_at, 0), EMPTY[series.kind])
