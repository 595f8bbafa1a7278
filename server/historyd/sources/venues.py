"""What each venue can do for history: a table of ours, because ccxt's `features` are a hint and partly wrong.

Promises: every entry states only what was read in ccxt's source or seen in recorded replies. A venue that has no
entry goes by the safest rules (`UNKNOWN_VENUE`): small pages, no `until`, and rows outside of the window mean that
the venue ignored it. Never does: any call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_DAY
from historyd.model.venue import Venue

if TYPE_CHECKING:
    from collections.abc import Mapping

MAIN_GROUP: Final = ""
"""The host group of a venue's main (spot) hosts; other groups have budgets of their own."""

ANY_KEY: Final = "*"
"""In `VenueTraits.bars_path`: whichever key holds a list."""


@dataclass(frozen=True, slots=True)
class VenueTraits:
    """What the CCXT source must know of a venue.

    Attributes:
        host: where its history comes from, for the store's origin.
        page_bars: most bars that one call returns.
        depth_bars: it serves only the last so many bars of a timeframe; None: all of history.
        takes_until: ccxt passes `until` (milliseconds, inclusive) on to it.
        lists_first_bar: asked with start 0 and limit 1 it answers with the first bar of all.
        longest_inverse_window: microseconds that one call for a coin-margined contract may span; None: no limit.
        bars_path: keys that lead from its answer to the list of bars; () if the answer is that list, None if we
            do not know, then any list in the answer counts.
        plain_rows: its rows are `[open time in ms, open, high, low, close, volume, ...]`.
        market_stages: what to set ccxt's option `fetchMarkets.types` to, one after the other; the first stage
            holds all symbols without a colon. Empty: ccxt loads all markets at once.
        skip_currencies: its markets can be loaded without the extra calls for its currencies.
        host_groups: prefix of ccxt's API name -> group of hosts that share one budget.
        weight_per_cost: the venue's own weight per unit of ccxt's cost, by host group; 1 where not named.
        bar_budget_ms: milliseconds of the venue's budget that a call for bars takes by ccxt's tables.
        quota_statuses: HTTP statuses that mean that a quota is spent.
        used_weight: how the headers begin, in lower case, that tell the weight used (used_weight.py); empty: it tells
            none, or none that counts the whole of a budget.
    """

    host: str = ""
    page_bars: int = 200
    depth_bars: int | None = None
    takes_until: bool = False
    lists_first_bar: bool = False
    longest_inverse_window: int | None = None
    bars_path: tuple[str, ...] | None = None
    plain_rows: bool = False
    market_stages: tuple[tuple[str, ...], ...] = ()
    skip_currencies: bool = False
    host_groups: Mapping[str, str] = field(default_factory=dict)
    weight_per_cost: Mapping[str, float] = field(default_factory=dict)
    bar_budget_ms: float = 100.0
    quota_statuses: frozenset[int] = frozenset({418, 429})
    used_weight: str = ""

    def host_group(self, api: str) -> str:
        """The group of hosts that serves this part of ccxt's API (`public`, `fapiPublic` ...)."""
        return next((group for prefix, group in self.host_groups.items() if api.startswith(prefix)), MAIN_GROUP)

    def weight(self, group: str, cost: float) -> float:
        """The cost of a call, given in ccxt's unit, in the venue's own unit of weight."""
        return cost * self.weight_per_cost.get(group, 1.0)


def _binance(host: str, page_bars: int = 1000, budget_ms: float = 20.0, *, spot: bool = True) -> VenueTraits:
    """Binance's dialect. One unit of ccxt's cost is 5 units of request weight on spot, 1 on futures."""
    stages = (("spot",), ("linear", "inverse")) if host == "api.binance.com" else ()
    return VenueTraits(
        host=host,
        page_bars=page_bars,
        takes_until=True,
        lists_first_bar=True,
        longest_inverse_window=200 * MICROS_PER_DAY,
        bars_path=(),
        plain_rows=True,
        market_stages=stages,
        host_groups={"fapi": "fapi", "dapi": "dapi", "eapi": "eapi", "papi": "papi"} if spot else {},
        weight_per_cost={MAIN_GROUP: 5.0} if spot else {},
        bar_budget_ms=budget_ms,
        used_weight="x-mbx-used-weight-",
    )


# The page sizes are what the venues' servers return in practice, see each exchange's fetch_ohlcv in ccxt.
VENUES: Final[Mapping[str, VenueTraits]] = {
    "binance": _binance("api.binance.com"),
    "binanceus": _binance("api.binance.us"),
    # Futures: a call for 500 or more bars costs 5 to 10 of ccxt's units, one for 499 costs 2.
    "binanceusdm": _binance("fapi.binance.com", page_bars=499, budget_ms=100.0, spot=False),
    "binancecoinm": _binance("dapi.binance.com", page_bars=499, budget_ms=100.0, spot=False),
    "okx": VenueTraits("www.okx.com", 300, takes_until=True, bars_path=("data",), bar_budget_ms=110.0),
    "bybit": VenueTraits(
        "api.bybit.com",
        1000,
        takes_until=True,
        bars_path=("result", "list"),
        # It answers 403 to a host that calls too often.
        quota_statuses=frozenset({403, 418, 429}),
    ),
    # Its `end` is inclusive: a window of 300 bars would be 301.
    "coinbase": VenueTraits("api.coinbase.com", 299, takes_until=True, bars_path=("candles",), skip_currencies=True),
    "coinbaseexchange": VenueTraits("api.exchange.coinbase.com", 299, takes_until=True, bars_path=()),
    "kraken": VenueTraits(
        "api.kraken.com",
        720,
        depth_bars=720,
        bars_path=("result", ANY_KEY),
        skip_currencies=True,
        bar_budget_ms=1200.0,
    ),
    "kucoin": VenueTraits("api.kucoin.com", 1500, bars_path=("data",), bar_budget_ms=22.5),
    "gate": VenueTraits("api.gateio.ws", 1000, bars_path=(), bar_budget_ms=50.0),
    # Its history endpoint serves the last 200 bars of a longer window.
    "bitget": VenueTraits("api.bitget.com", 200, bars_path=("data",), bar_budget_ms=50.0),
    "mexc": VenueTraits("api.mexc.com", 500, bar_budget_ms=50.0),
    "htx": VenueTraits("api.huobi.pro", 1000, takes_until=True, bars_path=("data",)),
    # It serves 10,000, which would block the event loop for 34 ms a page.
    "bitfinex": VenueTraits("api.bitfinex.com", 1000, takes_until=True, bars_path=(), bar_budget_ms=250.0),
    "bitstamp": VenueTraits("www.bitstamp.net", 1000, takes_until=True, bars_path=("data", "ohlc"), bar_budget_ms=75.0),
    "upbit": VenueTraits("api.upbit.com", 200, bars_path=()),
    "bithumb": VenueTraits("api.bithumb.com", 200, depth_bars=200),
    "gemini": VenueTraits("api.gemini.com", 500, bars_path=()),
    "cryptocom": VenueTraits("api.crypto.com", 300, takes_until=True, bars_path=("result", "data"), bar_budget_ms=10.0),
    "deribit": VenueTraits(
        "www.deribit.com", 1000, takes_until=True, bars_path=("result", "ticks"), bar_budget_ms=50.0
    ),
    "hyperliquid": VenueTraits(
        "api.hyperliquid.xyz", 1000, depth_bars=5000, takes_until=True, bars_path=(), bar_budget_ms=50.0
    ),
}

UNKNOWN_VENUE: Final = VenueTraits()
"""The safest rules, for a venue that has no entry."""


def traits_of(exchange: str) -> VenueTraits:
    """The entry of an exchange, or the safest rules."""
    return VENUES.get(exchange, UNKNOWN_VENUE)


def venue_of(exchange: str, window_size: int | None = None) -> Venue:
    """What planner and engine must know of an exchange; `window_size` can only make its pages smaller."""
    traits = traits_of(exchange)
    return Venue(
        exchange,
        page_bars=traits.page_bars if window_size is None else min(window_size, traits.page_bars),
        depth_bars=traits.depth_bars,
    )
