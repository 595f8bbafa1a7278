"""What planner and engine must know of a venue. The table itself is in sources/venues.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from historyd.model.time_range import MICROS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Venue:
    """What an exchange can do for history.

    Attributes:
        exchange: the CCXT id.
        page_bars: most bars that one call returns.
        depth_bars: it serves only the last so many bars of a timeframe, the open one among them; None: all of history.
        bar_settle: microseconds after its close that a bar may still change.
        trade_settle: microseconds that trades may still be added to the past.
        trade_depth: it serves trades of the last so many microseconds only; None: no limit is known.
        anchors: open time of one bar, by timeframe, as far as that is known beforehand.
        listing_calls: calls that it takes at most to learn where a series begins; None: it cannot be learned.
        trade_listing_calls: the same of trades.
    """

    exchange: str
    page_bars: int = 500
    depth_bars: int | None = None
    bar_settle: int = 2 * MICROS_PER_S
    trade_settle: int = 60 * MICROS_PER_S
    trade_depth: int | None = None
    anchors: Mapping[str, int] = field(default_factory=dict)
    listing_calls: int | None = None
    trade_listing_calls: int | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """One market of an exchange, as CCXT names it; `listed_at` in microseconds, None if not known."""

    symbol: str
    type: str
    active: bool
    listed_at: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the history of an exchange comes from: the host asked, and whether it is a sandbox."""

    host: str
    sandbox: bool = False

    def __str__(self) -> str:
        return f"{self.host} (sandbox)" if self.sandbox else self.host
