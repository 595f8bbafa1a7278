"""The CCXT source: fetches bars and trades from any exchange that ccxt knows, through real `ccxt.async_support`.

One long-lived ccxt instance per exchange, made when first needed (importing ccxt takes seconds, so that is done in
a thread). How each HTTP call is paid for, believed and judged is in ccxt_exchange.py and ccxt_errors.py; what a
venue can do is in venues.py; how trades are asked for is in ccxt_trades.py.

Promises those of sources/base.py. In particular nothing is retried here, and what cannot be read of a row becomes
a null open time or a NaN (ccxt_rows.py), never a missing row.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from historyd.errors import UnknownExchange
from historyd.model.time_range import MICROS_PER_MS
from historyd.model.venue import Market, Origin
from historyd.observability.hooks import NOBODY
from historyd.ratelimit.base import Cost
from historyd.sources import listing
from historyd.sources.base import Answer, Markets, RetryPolicy, TradesAnswer
from historyd.sources.ccxt_bars import bars_of
from historyd.sources.ccxt_exchange import Desk, Question, Rows, asking
from historyd.sources.ccxt_session import Session
from historyd.sources.ccxt_setup import is_sandbox, origin_host
from historyd.sources.ccxt_trades import TradeSource
from historyd.sources.clock import VenueClock
from historyd.sources.nearest import ccxt_ids, nearest_names
from historyd.sources.options import ExchangeOptions
from historyd.sources.trade_venues import with_trades
from historyd.sources.venues import MAIN_GROUP, UNKNOWN_VENUE, Listing, traits_of, venue_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.venue import Venue
    from historyd.model.wait import Observer, Wait
    from historyd.observability.hooks import Hooks
    from historyd.ratelimit.base import Limiter
    from historyd.sources.ccxt_bars import Bars

_LOG: Final = logging.getLogger(__name__)
_DEFAULTS: Final = ExchangeOptions()


def _host_clock() -> int:
    return time.time_ns() // 1000


class _Unobserved:
    """For calls that nobody watches."""

    urgent = True
    deadline = None

    def waiting(self, wait: Wait) -> None:
        pass

    def calling(self) -> None:
        pass


class CcxtSource:
    """All exchanges of the installed ccxt as a Source. An async context manager; its exit closes all connections.

    Args:
        limiter_for: the limiter of an exchange's host group (venues.py; MAIN_GROUP is the spot hosts').
        exchanges: settings by ccxt id; an exchange not named has the defaults.
        host_clock: microseconds since 1970.
        hooks: told of what venues answer.
    """

    def __init__(
        self,
        limiter_for: Callable[[str, str], Limiter],
        exchanges: Mapping[str, ExchangeOptions] | None = None,
        host_clock: Callable[[], int] = _host_clock,
        hooks: Hooks = NOBODY,
    ) -> None:
        self._limiter_for = limiter_for
        self._exchanges = dict(exchanges or {})
        self._host_clock = host_clock
        self._hooks = hooks
        self._stack = AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._sessions: dict[str, Session] = {}
        self._venues: dict[str, Venue] = {}
        self._desks: dict[str, Desk] = {}
        self._trades = TradeSource()

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            session.cancel()
        try:
            async with asyncio.TaskGroup() as closing:
                for session in self._sessions.values():
                    closing.create_task(session.close())
        finally:
            await self._stack.__aexit__(None, None, None)

    def venue(self, exchange: str) -> Venue:
        """What the exchange can do. No I/O. Raises UnknownExchange."""
        venue = self._venues.get(exchange)
        if venue is None:
            venue = with_trades(venue_of(_known(exchange), self._options(exchange).window_size))
            self._venues[exchange] = venue
        return venue

    def origin(self, exchange: str) -> Origin:
        """Where its history comes from. No I/O. Raises UnknownExchange."""
        options = self._options(_known(exchange))
        return Origin(origin_host(options, traits_of(exchange), exchange), is_sandbox(options))

    def now(self, exchange: str) -> int:
        """The exchange's clock in microseconds, never ahead of it; the host's before its first answer."""
        return self._desk(exchange).clock.now()

    def retry_policy(self, exchange: str) -> RetryPolicy:
        """How often failed calls to this exchange are repeated."""
        options = self._options(exchange)
        return RetryPolicy(options.max_retries, options.retry_backoff_s)

    def least_duration(self, exchange: str, calls: int) -> float:
        """Least seconds that the quota allows for so many calls for bars, if nobody else uses it.

        A call is priced as the last one was; before the first, by the venue table.
        """
        desk = self._desk(exchange)
        limiter, budget_ms = desk.limiter_for(MAIN_GROUP), desk.traits.bar_budget_ms
        return limiter.least_duration(desk.bar_cost or Cost(budget_ms=budget_ms), calls)

    async def check(self, series: SeriesId) -> None:
        """Raises UnknownExchange, UnknownSymbol or UnknownTimeframe if the exchange does not serve the series."""
        session = self._session(series.exchange)
        with asking(Question(_Unobserved(), series.symbol)):
            if series.timeframe is None:
                await session.trade_market(series.symbol)
                return
            await session.check_timeframe(series)
            await session.market(series.symbol)

    async def fetch_bars(self, series: SeriesId, window: TimeRange, observer: Observer) -> Answer:
        """Asks for the bars of a window, with one call for each page of the venue that it spans.

        The rows have the schema `ccxt_rows.RAW_BARS`. Raises as sources/base.py says.
        """
        with asking(_about_bars(series, observer)) as question:
            said = await (await self._bars(series)).fetch(window)
        assert question.sent_at is not None
        return Answer(said.rows, question.sent_at, said.speaks_from)

    async def first_bar(self, series: SeriesId, observer: Observer, since: int) -> int | None:
        """An instant before which the venue has no bar of a series, and soon after which it has; None: it cannot tell.

        Takes up to `Venue.listing_calls` calls; where that is many, one if there are bars right from `since` on.
        Raises as `fetch_bars`.
        """
        if traits_of(series.exchange).listing is Listing.UNTOLD:
            return None
        with asking(_about_bars(series, observer)):
            return await listing.first_bar(await self._bars(series), since)

    async def any_bar(self, series: SeriesId, observer: Observer) -> int | None:
        """Open time of one of the latest bars of a series, with one call; None if there is none."""
        with asking(_about_bars(series, observer)):
            return await listing.any_bar(await self._bars(series))

    async def fetch_trades(self, series: SeriesId, window: TimeRange, observer: Observer) -> TradesAnswer:
        """Asks for trades of a part of the window. Raises as sources/base.py says."""
        session, page_trades = self._session(series.exchange), self._options(series.exchange).window_size
        return await self._trades.fetch(session, series, window, page_trades, observer)

    async def before_trades(self, series: SeriesId, observer: Observer) -> TradesAnswer | None:
        """What is known of the time before a series' first trade; None if there is no cheap way to tell."""
        session, page_trades = self._session(series.exchange), self._options(series.exchange).window_size
        return await self._trades.beginning(session, series, page_trades, observer)

    async def markets(self, exchange: str) -> Markets:
        """All markets of an exchange, by symbol. Raises as `fetch_bars`."""
        session = self._session(exchange)
        with asking(Question(_Unobserved())):
            timeframes = await session.timeframes()
            listed = [_market(market) for market in await session.markets()]
        return Markets(tuple(sorted(listed, key=lambda market: market.symbol)), tuple(timeframes))

    async def _bars(self, series: SeriesId) -> Bars:
        """The bars of a series; raises what `check` raises."""
        return await bars_of(self._session(series.exchange), series, self.venue(series.exchange).page_bars)

    def _session(self, exchange: str) -> Session:
        session = self._sessions.get(exchange)
        if session is None:
            desk = self._desk(exchange)
            assert self._tasks is not None, "CcxtSource is used outside of its `async with`"
            session = self._sessions[exchange] = Session(desk, self._options(exchange), self._tasks)
            if desk.traits is UNKNOWN_VENUE:
                _LOG.warning("%s is not in the venue table: small pages and the safest rules apply", exchange)
        return session

    def _desk(self, exchange: str) -> Desk:
        desk = self._desks.get(exchange)
        if desk is None:
            clock = VenueClock(self._host_clock)
            desk = Desk(
                _known(exchange),
                traits_of(exchange),
                lambda group: self._limiter_for(exchange, group),
                clock,
                self._host_clock,
                self._hooks,
            )
            self._desks[exchange] = desk
        return desk

    def _options(self, exchange: str) -> ExchangeOptions:
        return self._exchanges.get(exchange, _DEFAULTS)


def _known(exchange: str) -> str:
    if exchange not in ccxt_ids():
        raise UnknownExchange(exchange, nearest_names(exchange, ccxt_ids()))
    return exchange


def _about_bars(series: SeriesId, observer: Observer) -> Question:
    return Question(observer, series.symbol, Rows(traits_of(series.exchange).bars_path), about_bars=True)


def _market(market: Mapping[str, Any]) -> Market:
    created = market.get("created")
    return Market(
        symbol=str(market["symbol"]),
        type=str(market.get("type") or ""),
        active=market.get("active") is not False,
        listed_at=int(created) * MICROS_PER_MS if created else None,
    )
