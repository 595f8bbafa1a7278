"""Makes a series ready to be written: it exists at the exchange, its layout is fixed, its listing may be known.

What is learned here is kept in the store, as the layout and as a fact (before its first bar the series is empty), so
that a range which begins years before the listing costs a few calls once, and none ever again. Where it costs more
than one or two calls, the listing is only asked for when a range begins in the dark.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from historyd.coverage import RECHECK_DELAY, Fact, subtract
from historyd.errors import NoLongerListed, UnknownSymbol
from historyd.model.page import TRADE_PAGE_MS, Layout, Pages
from historyd.model.rows import EMPTY
from historyd.model.time_range import EARLIEST, MICROS_PER_S, TimeRange
from historyd.model.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from historyd.engine.probes import Probes
    from historyd.engine.retrying import Retrying
    from historyd.engine.singleflight import Flight
    from historyd.model.series import SeriesId
    from historyd.sources.base import Source
    from historyd.stores.base import Store

CHEAP_CALLS: Final = 2
"""A listing that takes no more calls than this is asked for when a series is first opened."""
LOOK_TTL: Final = 3600 * MICROS_PER_S
"""How long the exchange is not asked again where a series begins."""
_USUAL_GRID: Final = Timeframe.parse("1h").nominal_width
"""Bars up to this width open on the same grid everywhere; wider ones depend on where the venue's day begins."""


@contextmanager
def of_stored_series(series: SeriesId) -> Iterator[None]:
    """For questions about a series that is in the store: an unknown symbol is one that was delisted."""
    try:
        yield
    except UnknownSymbol as error:
        raise NoLongerListed(series.exchange, series.symbol) from error


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
        self._looked: dict[SeriesId, tuple[int, int]] = {}

    def has_looked(self, series: SeriesId, since: int, believed_since: int | None = None) -> bool:
        """Whether the exchange was asked within the last hour where the series begins: it says the same again.

        Unless `since`, from where on it matters, is earlier than it was then. A refresh (`believed_since`) believes no
        older answer.
        """
        if series not in self._looked:
            return False
        looked_at, looked_since = self._looked[series]
        if since < looked_since or (believed_since is not None and looked_at < believed_since):
            return False
        return self._clock() - looked_at < LOOK_TTL

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
        origin, venue = self._source.origin(series.exchange), self._source.venue(series.exchange)
        if series.timeframe is None:
            # Where trades begin may take a dozen calls to learn, which only a long range is worth.
            return await self._store.open_series(series, origin, Layout(TRADE_PAGE_MS))
        chosen = Layout(venue.page_bars, await self._anchor(series, flight))
        layout = await self._store.open_series(series, origin, chosen)
        if 0 < (venue.listing_calls or 0) <= CHEAP_CALLS:
            await self._learn_listing(series, layout, flight, EARLIEST)
        return layout

    async def learn_listing(self, series: SeriesId, flight: Flight[Layout], since: int) -> Layout:
        """Asks where an open series begins, for a range from `since` on, and keeps it.

        Raises as `open`, or NoLongerListed.
        """
        layout = await self.open(series, flight)
        with of_stored_series(series):
            if series.timeframe is None:
                await self._learn_before_trades(series, layout, flight)
            else:
                await self._learn_listing(series, layout, flight, since)
        return layout

    async def _learn_listing(self, series: SeriesId, layout: Layout, flight: Flight[Layout], since: int) -> None:
        policy = self._source.retry_policy(series.exchange)
        first = await self._retrying.call(policy, flight, lambda: self._source.first_bar(series, flight, since))
        self._looked[series] = self._clock(), since
        if first is not None:
            await self._keep_listing(series, layout, first)

    async def _learn_before_trades(self, series: SeriesId, layout: Layout, flight: Flight[Layout]) -> None:
        policy = self._source.retry_policy(series.exchange)
        answer = await self._retrying.call(policy, flight, lambda: self._source.before_trades(series, flight))
        self._looked[series] = self._clock(), EARLIEST
        if answer is None:
            return
        if answer.unreachable is not None:
            self._probes.add(series, answer.unreachable.range, answer.unreachable.reason)
        if answer.covered is not None:
            await self._keep_listing(series, layout, answer.covered.end)

    async def _anchor(self, series: SeriesId, flight: Flight[Layout]) -> int | None:
        """Where the grid lies: by the venue's table, else by one of its bars; None: where it usually does."""
        timeframe = series.timeframe
        assert timeframe is not None
        known = self._source.venue(series.exchange).anchors.get(str(timeframe))
        if known is not None or timeframe.nominal_width <= _USUAL_GRID:
            return known
        policy = self._source.retry_policy(series.exchange)
        return await self._retrying.call(policy, flight, lambda: self._source.any_bar(series, flight))

    async def _keep_listing(self, series: SeriesId, layout: Layout, first: int) -> None:
        """Commits that there is nothing before the page of the first bar or trade.

        Of bars never up to within a day of now: an empty answer that young is asked for again, page by page. Of trades
        these are two days of pages, which the listing is worth to be asked for twice, but not at once.
        """
        asked_at = self._clock()
        pages = Pages.of(series, layout)
        settled = pages.at(pages.number_of(min(first, asked_at - 2 * RECHECK_DELAY))).start
        listed = settled if pages.whole else pages.at(pages.number_of(min(first, asked_at))).start
        for start, end in ((EARLIEST, settled), (settled, listed)):
            if start < end:
                await self._keep_empty(series, TimeRange(start, end), asked_at)

    async def _keep_empty(self, series: SeriesId, window: TimeRange, asked_at: int) -> None:
        """Commits that there is nothing, but of what is known: that outlives what the venue serves."""
        known = [span.range for span in await self._store.coverage(series, window)]
        for part in subtract(window, known):
            await self._store.commit(series, Fact(part, asked_at, 0), EMPTY[series.kind])
