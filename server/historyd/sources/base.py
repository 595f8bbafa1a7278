"""The protocol of a source: where missing rows come from.

A source promises:
1. `fetch_bars` asks the venue for one window with as many calls as that takes (usually one) and returns what
   it said, untouched but for the type: unordered, double, off-grid, senseless rows are the caller's to judge.
   Rows outside the window are returned too, so that a venue that ignored the window can be told.
2. An answer that has not the venue's shape raises BadAnswer; it is never an empty answer.
3. Every HTTP call it makes is paid for at the exchange's limiter first, and told to the observer.
4. Nothing is retried here: errors come out as HistoryErrors with `retry_after_s` where the venue gave one.
5. Cancelling one caller never harms another.
A source never stores anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from historyd.coverage import Unreachable
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.venue import Market, Origin, Venue
    from historyd.model.wait import Observer


@dataclass(frozen=True, slots=True)
class Answer:
    """What the venue said for a window.

    Attributes:
        rows: raw, in the kind's schema.
        asked_at: when the question was sent, microseconds.
        speaks_from: the venue gives its newest rows, whatever window it is told, so that rows outside of it are no
            fault: the answer says nothing of what is before this instant. None: it speaks of the window, unless all
            of its rows are of another time.
    """

    rows: pa.RecordBatch
    asked_at: int
    speaks_from: int | None = None


@dataclass(frozen=True, slots=True)
class TradesAnswer:
    """What the venue said of trades, asked at `asked_at` (microseconds, host clock).

    Attributes:
        rows: trades in the schema `RAW_TRADES`, in the order in which they happened; double and senseless ones and
            ones outside of `covered` are the caller's to judge.
        asked_at: when it was first asked.
        covered: the time of which `rows` has all trades that had happened when it was asked, so that it may reach
            beyond the present; its ends are whole milliseconds. None: of none.
        unreachable: the time that the venue does not serve, and why.
    """

    rows: pa.RecordBatch
    asked_at: int
    covered: TimeRange | None = None
    unreachable: Unreachable | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed call is made: `attempts` in total, the first pause `backoff_s`, doubling."""

    attempts: int = 3
    backoff_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Markets:
    """The markets of an exchange by symbol, and the timeframes it serves, shortest first."""

    markets: tuple[Market, ...]
    timeframes: tuple[str, ...]


class Source(Protocol):
    """Where missing rows come from, for all exchanges it knows."""

    def venue(self, exchange: str) -> Venue:
        """What the exchange can do. No I/O. Raises UnknownExchange."""

    def origin(self, exchange: str) -> Origin:
        """Where its history comes from. No I/O. Raises UnknownExchange."""

    def now(self, exchange: str) -> int:
        """The exchange's clock in microseconds, never ahead of it; the host's before its first answer."""

    def retry_policy(self, exchange: str) -> RetryPolicy:
        """How often failed calls to this exchange are repeated."""

    def least_duration(self, exchange: str, calls: int) -> float:
        """Least seconds that the quota allows for so many calls for bars, if nobody else uses it."""

    async def check(self, series: SeriesId) -> None:
        """Raises UnknownExchange, UnknownSymbol or UnknownTimeframe if the exchange does not serve the series.

        May load the exchange's markets, once.
        """

    async def fetch_bars(self, series: SeriesId, window: TimeRange, observer: Observer) -> Answer:
        """Asks for the bars of a window of at most one page.

        Raises ExchangeUnavailable, BadAnswer, RateLimited, VenueRefused, or what `check` raises.
        """

    async def first_bar(self, series: SeriesId, observer: Observer, since: int) -> int | None:
        """An instant before which the venue has no bar of a series, and soon after which it has; None: it cannot tell.

        It takes up to `Venue.listing_calls` calls, one if the venue has bars right from `since` on: then it may not
        look further, and give None. Raises as `fetch_bars`.
        """

    async def any_bar(self, series: SeriesId, observer: Observer) -> int | None:
        """Open time of one of the latest bars of a series, with one call; None if there is none.

        Raises as `fetch_bars`.
        """

    async def fetch_trades(self, series: SeriesId, window: TimeRange, observer: Observer) -> TradesAnswer:
        """Asks for trades of a window in whole milliseconds that has ended, with one call if that is enough.

        What is covered or unreachable contains the window's first millisecond or its last one, and perhaps time
        outside of the window: ask again for what is left of it. Raises as `fetch_bars`.
        """

    async def before_trades(self, series: SeriesId, observer: Observer) -> TradesAnswer | None:
        """What is known of the time before the first trade: covered without rows, or unreachable.

        None if there is no cheap way to tell. Raises as `fetch_bars`.
        """

    async def markets(self, exchange: str) -> Markets:
        """All markets of an exchange, by symbol. Raises as `fetch_bars`."""
