"""The part of the engine that knows the source: what can be asked for now, what is missing, and who fetches it.

Owns the tasks that fetch pages and open series. Promises: one fetch per page and one opening per series at a time,
however many callers want it; when it is closed, what is on the wire is waited for within a bound, and no task is left.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from historyd.coverage import disjoin
from historyd.engine.backfill import URGENT_PAGES, Backfill, PageFetcher, PageJob, PageOutcome
from historyd.engine.opening import Opener
from historyd.engine.probes import Probes
from historyd.engine.retrying import Retrying
from historyd.engine.singleflight import Caller, SingleFlight
from historyd.engine.trade_pages import TradeFetcher
from historyd.engine.watching import WatchedFetcher, watched_opening
from historyd.errors import NoSource
from historyd.model.page import TRADE_PAGE_MS, Layout, Pages
from historyd.model.time_range import EARLIEST, TimeRange
from historyd.model.venue import Venue
from historyd.planner import Horizon, Plan, plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from historyd.coverage import Unreachable
    from historyd.engine.singleflight import Flight
    from historyd.leases.base import Leases
    from historyd.model.series import SeriesId
    from historyd.observability.hooks import Hooks
    from historyd.sources.base import Markets, Source
    from historyd.stores.base import Store

LANDING_S: Final = 10.0
"""How long calls on the wire are waited for when the engine closes."""
_LISTING_PAGES: Final = 2
"""A gap before all that is known is never worth asking for the first bar unless it has more pages than this."""


@dataclass(frozen=True, slots=True)
class View:
    """What of a series can be asked for at one moment, by the exchange's clock and the venue's table."""

    series: SeriesId
    pages: Pages
    horizon: Horizon
    venue_now: int
    unreachable: tuple[Unreachable, ...]


class Backfiller:
    """Knows what is missing and has it fetched. An async context manager."""

    def __init__(
        self,
        store: Store,
        source: Source | None,
        leases: Leases,
        clock: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        hooks: Hooks,
    ) -> None:
        self._store = store
        self._source = source
        self._leases = leases
        self._hooks = hooks
        self._clock = clock
        self._retrying = Retrying(clock, sleep)
        self._probes = Probes(clock)
        self._opened: set[SeriesId] = set()
        self._kept_opener: Opener | None = None
        self._tasks = asyncio.TaskGroup()
        self._page_flights = SingleFlight[PageOutcome](self._tasks)
        self._open_flights = SingleFlight[Layout](self._tasks)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        with contextlib.suppress(TimeoutError):  # which has cancelled what was still on the wire
            async with asyncio.timeout(LANDING_S):
                await self._tasks.__aexit__(None, None, None)

    def drain(self) -> None:
        """No page is begun from now on: callers get ShuttingDown at their next page boundary."""
        self._page_flights.close()
        self._open_flights.close()

    def abandon(self) -> None:
        """Ends all at once; what is on the wire is not waited for, and its answer is lost."""
        self._page_flights.abandon()
        self._open_flights.abandon()

    @property
    def under_way(self) -> int:
        """Pages being fetched and series being opened."""
        return len(self._page_flights) + len(self._open_flights)

    async def markets(self, exchange: str) -> Markets:
        """All markets of an exchange. Raises NoSource, or what the source raises."""
        return await self._need_source(exchange).markets(exchange)

    async def view(self, series: SeriesId, believed_since: int | None = None) -> View:
        """What of the series can be asked for now; a refresh (`believed_since`) believes no older probe.

        Asks the exchange for nothing. Raises UnknownExchange.
        """
        source = self._source
        venue = source.venue(series.exchange) if source else Venue(series.exchange)
        venue_now = source.now(series.exchange) if source else self._clock()
        pages = Pages.of(series, await self._store.layout(series) or _usual_layout(venue, series))
        horizon = Horizon.of(venue, series, pages.grid, venue_now)
        unreachable = disjoin([*horizon.unreachable(venue, series), *self._probes.of(series, believed_since)])
        return View(series, pages, horizon, venue_now, tuple(unreachable))

    async def plan(self, view: View, window: TimeRange, believed_since: int | None = None) -> Plan:
        """What is missing of the window; a refresh (`believed_since`) believes no older answer."""
        covered = await self._store.coverage(view.series, window)
        return plan(
            covered,
            window,
            view.pages,
            view.horizon,
            venue_now=view.venue_now,
            believed_since=believed_since,
            unreachable=view.unreachable,
        )

    async def look_again(self, view: View, believed_since: int | None = None) -> View:
        """The same moment, with what was learned since: windows that the venue did not serve, a clock that ran ahead.

        What has closed meanwhile is left out, else a range that reaches up to now would never be complete.
        """
        now = await self.view(view.series, believed_since)
        closed_through = min(view.horizon.closed_through, now.horizon.closed_through)
        return replace(view, unreachable=now.unreachable, horizon=replace(view.horizon, closed_through=closed_through))

    async def prepare(
        self, view: View, window: TimeRange, believed_since: int | None = None, deadline: int | None = None
    ) -> tuple[View, Plan]:
        """Plans a window and, if anything is missing, makes the series ready to be written.

        The view that is returned is the one given, unless something was missing. `deadline` is the caller's
        (microseconds, host clock). Raises NoSource, or what the source or the store raises.
        """
        missing = await self.plan(view, window, believed_since)
        if not missing.gaps:
            return view, missing
        series = view.series
        opener = self._opener(series)
        if series not in self._opened:
            await self._open(series, opener.open, Caller(deadline=deadline))
            self._opened.add(series)
            view = await self.view(series, believed_since)
            missing = await self.plan(view, window, believed_since)
        since = missing.gaps[0].start if missing.gaps else window.start
        looked = opener.has_looked(series, since, believed_since)
        if not looked and await self._begins_in_the_dark(series, window, missing):
            await self._open(series, partial(opener.learn_listing, since=since), Caller(deadline=deadline))
            view = await self.look_again(view, believed_since)
            missing = await self.plan(view, window, believed_since)
        return view, missing

    def walk(
        self, view: View, missing: Plan, believed_since: int | None = None, deadline: int | None = None
    ) -> Backfill:
        """Fetches the windows of a plan, for a caller who waits until `deadline`; see Backfill."""
        source = self._need_source(view.series.exchange)
        fetches = TradeFetcher if view.series.timeframe is None else PageFetcher
        fetcher = fetches(self._store, source, self._leases, self._probes, self._retrying, self._clock)
        jobs = (_job(view, window, believed_since) for window in missing.windows())
        caller = Caller(urgent=missing.page_count <= URGENT_PAGES, deadline=deadline)
        return Backfill(self._page_flights, WatchedFetcher(fetcher, self._hooks), jobs, caller)

    def least_duration_s(self, exchange: str, calls: int) -> float:
        """Least seconds that the quota allows for so many calls; 0 without a source."""
        return self._source.least_duration(exchange, calls) if self._source else 0.0

    async def _open(self, series: SeriesId, job: Callable[..., Awaitable[Layout]], caller: Caller) -> None:
        def watched(flight: Flight[Layout]) -> Awaitable[Layout]:
            return watched_opening(series, job(series, flight), self._hooks)

        kind = "learn" if isinstance(job, partial) else "open"
        flight = self._open_flights.join((series, kind), watched, caller)
        try:
            await flight.landed.wait()
        finally:
            self._open_flights.leave(flight, caller)
        flight.outcome()

    async def _begins_in_the_dark(self, series: SeriesId, window: TimeRange, missing: Plan) -> bool:
        """Whether the listing may lie in the first gap or before what can be asked for, and is worth asking for.

        That is so if nothing is known at or before the gap's start, and the gap has more pages than it takes calls to
        learn the listing, or the window begins before what the venue serves.
        """
        venue = self._need_source(series.exchange).venue(series.exchange)
        calls = venue.trade_listing_calls if series.timeframe is None else venue.listing_calls
        if calls is None or not missing.gaps:
            return False
        first = missing.gaps[0]
        pages = missing.pages.number_of(first.end - 1) - missing.pages.number_of(first.start) + 1
        if pages <= max(_LISTING_PAGES, calls) and window.start >= missing.horizon.reachable_from:
            return False
        return not await self._store.coverage(series, TimeRange(EARLIEST, first.start + 1))

    def _opener(self, series: SeriesId) -> Opener:
        source = self._need_source(series.exchange)
        if self._kept_opener is None:
            self._kept_opener = Opener(self._store, source, self._retrying, self._probes, self._clock)
        return self._kept_opener

    def _need_source(self, exchange: str) -> Source:
        if self._source is None:
            raise NoSource(exchange)
        return self._source


def _job(view: View, window: TimeRange, believed_since: int | None) -> PageJob:
    page = window.start if view.pages.whole else view.pages.at(view.pages.number_of(window.start)).start
    return PageJob(view.series, window, view.pages.grid, page, believed_since)


def _usual_layout(venue: Venue, series: SeriesId) -> Layout:
    if series.timeframe is None:
        return Layout(TRADE_PAGE_MS)
    return Layout(venue.page_bars, venue.anchors.get(str(series.timeframe)))
