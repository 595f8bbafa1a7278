"""What each venue can do for trades: how its public trades are asked for, how far back, in which order they come.

Promises: every entry states only what was read in ccxt's source or in a venue's public documentation. A venue without
an entry goes by the safest rules (`UNKNOWN_TRADES`): its latest trades are believed to be its latest without a gap,
and nothing more. Never does: any call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_MS, MICROS_PER_S
from historyd.sources.venues import ANY_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from historyd.model.venue import Venue

_HOUR: Final = 3600 * MICROS_PER_S


class Paging(Enum):
    """How trades of some past time are asked for.

    ID_FORWARD: from an id on, ascending; the first id of a time by a window of time.
    TIME_FORWARD: from an instant on, ascending, with a cursor of the venue's own where it gives one.
    WINDOWS: those of a window of time; which ones it leaves out of a window that has too many is not known.
    ID_BACKWARD: before an id or an instant, descending.
    LATEST: only the latest few.
    NONE: it has no public trades.
    """

    ID_FORWARD = auto()
    TIME_FORWARD = auto()
    WINDOWS = auto()
    ID_BACKWARD = auto()
    LATEST = auto()
    NONE = auto()


class Probe(Enum):
    """How the first trade of all is found.

    FIRST: asked from the beginning of time (id 0) on it answers with its first trades.
    HALVING: asked for an early time it tells whether there are trades before; the beginning is found by halving.
    NONE: there is no cheap way.
    """

    FIRST = auto()
    HALVING = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class TradeTraits:
    """What the CCXT source must know of a venue's trades.

    Attributes:
        paging: how past trades are asked for.
        page_trades: how many one call is asked for.
        rows_path: keys that lead from its answer to the list of trades, as `VenueTraits.bars_path`.
        newest_first: the order of its answers, needed only where ids are no numbers.
        unit: microseconds of the unit in which it takes the ends of a window.
        longest: microseconds of the longest window that it takes.
        depth: it serves trades of the last so many microseconds only; None: no limit is known.
        latest_span: LATEST only: its latest trades are all of so many microseconds; None: a number of trades.
        params: what ccxt is always given.
        from_param: the parameter that a window's start goes into, in seconds, where ccxt has no place for it.
        probe: how the first trade is found.
    """

    paging: Paging = Paging.LATEST
    page_trades: int = 100
    rows_path: tuple[str, ...] | None = None
    newest_first: bool = True
    unit: int = MICROS_PER_MS
    longest: int = _HOUR
    depth: int | None = None
    latest_span: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    from_param: str | None = None
    probe: Probe = Probe.NONE


_BINANCE: Final = TradeTraits(
    Paging.ID_FORWARD, 1000, rows_path=(), newest_first=False, longest=_HOUR, probe=Probe.FIRST
)

TRADE_VENUES: Final[Mapping[str, TradeTraits]] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "binanceusdm": _BINANCE,
    "binancecoinm": _BINANCE,
    # The history endpoint serves three months, a hundred trades a call; type 2 pages by time, 1 by trade id.
    "okx": TradeTraits(
        Paging.ID_BACKWARD,
        100,
        rows_path=("data",),
        depth=90 * MICROS_PER_DAY,
        params={"method": "publicGetMarketHistoryTrades"},
        probe=Probe.HALVING,
    ),
    # Of spot markets it serves 60.
    "bybit": TradeTraits(page_trades=1000, rows_path=("result", "list")),
    "coinbase": TradeTraits(Paging.WINDOWS, 1000, rows_path=("trades",), unit=MICROS_PER_S, probe=Probe.HALVING),
    "coinbaseexchange": TradeTraits(page_trades=1000, rows_path=()),
    # With a smaller count its cursor is not in the answer.
    "kraken": TradeTraits(
        Paging.TIME_FORWARD, 1000, rows_path=("result", ANY_KEY), newest_first=False, probe=Probe.FIRST
    ),
    "kucoin": TradeTraits(rows_path=("data",), newest_first=False),
    "gate": TradeTraits(Paging.WINDOWS, 1000, rows_path=(), unit=MICROS_PER_S, from_param="from"),
    "bitget": TradeTraits(Paging.WINDOWS, 1000, rows_path=("data",), depth=90 * MICROS_PER_DAY),
    "mexc": TradeTraits(Paging.WINDOWS, 1000, newest_first=False),
    "htx": TradeTraits(page_trades=2000, rows_path=("data",)),
    # It serves 10,000, which would block the event loop for 200 ms a page.
    "bitfinex": TradeTraits(Paging.TIME_FORWARD, 2000, rows_path=(), newest_first=False, probe=Probe.FIRST),
    "bitstamp": TradeTraits(page_trades=1000, rows_path=(), latest_span=_HOUR),
    "upbit": TradeTraits(page_trades=200, rows_path=()),
    "bithumb": TradeTraits(page_trades=200),
    "gemini": TradeTraits(page_trades=500, rows_path=()),
    "hitbtc": TradeTraits(page_trades=1000, rows_path=()),
    "cryptocom": TradeTraits(Paging.WINDOWS, 150, rows_path=("result", "data")),
    "deribit": TradeTraits(Paging.WINDOWS, 1000, rows_path=("result", "trades"), newest_first=False),
    # What ccxt calls its trades are the fills of one user.
    "hyperliquid": TradeTraits(Paging.NONE),
}

_PROBE_CALLS: Final[Mapping[Probe, int | None]] = {Probe.FIRST: 2, Probe.HALVING: 20, Probe.NONE: None}
"""Calls that it takes at most to find the first trade; halving 56 years takes 19 to find an hour, and one to begin."""

UNKNOWN_TRADES: Final = TradeTraits()
"""The safest rules, for a venue that has no entry."""


def trade_traits_of(exchange: str) -> TradeTraits:
    """The entry of an exchange, or the safest rules."""
    return TRADE_VENUES.get(exchange, UNKNOWN_TRADES)


def with_trades(venue: Venue) -> Venue:
    """The venue with what planner and engine must know of its trades."""
    traits = trade_traits_of(venue.exchange)
    calls = 1 if traits.paging is Paging.LATEST else _PROBE_CALLS[traits.probe]
    return replace(venue, trade_depth=traits.depth, trade_listing_calls=calls)
