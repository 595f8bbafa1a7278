"""What each venue can do for history: a table of ours, because ccxt's `features` are a hint and partly wrong.

Promises: every entry states only what was read in ccxt's source, seen in recorded replies or said by its users
(docs/venues.md says which). A venue that has no entry goes by the safest rules (`UNKNOWN_VENUE`): small pages, no
end of the window, no probe for the listing, and rows outside of the window mean that the venue ignored it.
Never does: any call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_DAY
from historyd.model.venue import Venue

if TYPE_CHECKING:
    from collections.abc import Mapping

MAIN_GROUP: Final = ""
"""The host group of a venue's main (spot) hosts; other groups have budgets of their own."""

ANY_KEY: Final = "*"
"""In `VenueTraits.bars_path`: whichever key holds a list."""


class Listing(Enum):
    """How a venue tells where a series begins; sources/listing.py asks."""

    UNTOLD = auto()
    """It does not; pages before the listing are asked for one by one."""
    START_OF_TIME = auto()
    """Asked with start 0 and limit 1 it answers with the first bar of all."""
    COARSE_BARS = auto()
    """It serves fixed windows of any time; bars of months, then days show where they begin."""
    SHORT_ANSWER = auto()
    """It answers with its newest bars; fewer than it serves at most are all that there are."""


@dataclass(frozen=True, slots=True)
class VenueTraits:
    """What the CCXT source must know of a venue.

    Attributes:
        host: where its history comes from, for the store's origin.
        page_bars: most bars that one call returns.
        page_contract_bars: the same for contracts, if it is fewer.
        page_wide_bars: the same for bars wider than a day, if it is fewer.
        longest_contract_window: microseconds that one call for a contract may span; None: no limit.
        longest_inverse_window: the same for coin-margined contracts.
        depth_bars: it serves only the last so many bars of a timeframe, the open one among them; None: all of history.
        newest_only: it answers with its newest bars up to `depth_bars`, whatever start was asked for.
        start_param: the name under which it must be told the start, where ccxt would change it; empty: ccxt does.
        end_param: the name under which ccxt hands on the end of the window (milliseconds, inclusive); empty: ccxt
            makes an end of start and limit, or there is none.
        old_bars: ccxt's parameter and value for the endpoint that has the bars that are not among the newest 1,000;
            None: one endpoint has all, or ccxt chooses well.
        listing: how it tells where a series begins.
        listing_calls: how many calls that takes at most.
        anchors: open time of one bar, by timeframe, where it was read or seen.
        misnamed: timeframes that ccxt offers and that are something else at the venue; they are not served.
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
        unknown_symbol: what its errors say of a symbol that it does not list, where ccxt does not know; empty: it does.
    """

    host: str = ""
    page_bars: int = 200
    page_contract_bars: int | None = None
    page_wide_bars: int | None = None
    longest_contract_window: int | None = None
    longest_inverse_window: int | None = None
    depth_bars: int | None = None
    newest_only: bool = False
    start_param: str = ""
    end_param: str = ""
    old_bars: tuple[str, str] | None = None
    listing: Listing = Listing.UNTOLD
    listing_calls: int = 0
    anchors: Mapping[str, int] = field(default_factory=dict)
    misnamed: frozenset[str] = frozenset()
    bars_path: tuple[str, ...] | None = None
    plain_rows: bool = False
    market_stages: tuple[tuple[str, ...], ...] = ()
    skip_currencies: bool = False
    host_groups: Mapping[str, str] = field(default_factory=dict)
    weight_per_cost: Mapping[str, float] = field(default_factory=dict)
    bar_budget_ms: float = 100.0
    quota_statuses: frozenset[int] = frozenset({418, 429})
    used_weight: str = ""
    unknown_symbol: str = ""

    def host_group(self, api: str) -> str:
        """The group of hosts that serves this part of ccxt's API (`public`, `fapiPublic` ...)."""
        return next((group for prefix, group in self.host_groups.items() if api.startswith(prefix)), MAIN_GROUP)

    def weight(self, group: str, cost: float) -> float:
        """The cost of a call, given in ccxt's unit, in the venue's own unit of weight."""
        return cost * self.weight_per_cost.get(group, 1.0)

    def most_bars(self, *, contract: bool, wider_than_a_day: bool) -> int:
        """Most bars that one call returns for such a series."""
        limits = [self.page_bars]
        if contract and self.page_contract_bars is not None:
            limits.append(self.page_contract_bars)
        if wider_than_a_day and self.page_wide_bars is not None:
            limits.append(self.page_wide_bars)
        return min(limits)

    def longest_window(self, *, contract: bool, inverse: bool) -> int | None:
        """Microseconds that one call may span for such a market; None: no limit."""
        limits = (self.longest_contract_window if contract else None, self.longest_inverse_window if inverse else None)
        return min((limit for limit in limits if limit is not None), default=None)


_MONDAY: Final = 4 * MICROS_PER_DAY
_THURSDAY: Final = 0
"""1970-01-01 was one: weeks counted from the start of time begin on it."""


def _binance(host: str, page_bars: int = 1000, budget_ms: float = 20.0, *, spot: bool = True) -> VenueTraits:
    """Binance's dialect. One unit of ccxt's cost is 5 units of request weight on spot, 1 on futures."""
    stages = (("spot",), ("linear", "inverse")) if host == "api.binance.com" else ()
    return VenueTraits(
        host=host,
        page_bars=page_bars,
        end_param="until",
        longest_inverse_window=200 * MICROS_PER_DAY,
        listing=Listing.START_OF_TIME,
        listing_calls=2,
        anchors={"1w": _MONDAY},
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
    "okx": VenueTraits(
        "www.okx.com",
        300,
        end_param="until",
        # Its `candles` reach back 1,440 bars and say nothing of it; ccxt chooses by the host's clock, which may err.
        old_bars=("type", "HistoryCandles"),
        listing=Listing.COARSE_BARS,
        listing_calls=4,
        anchors={"1w": _MONDAY},
        bars_path=("data",),
        market_stages=(("spot",), ("future", "swap", "option")),
        skip_currencies=True,
        bar_budget_ms=110.0,
    ),
    "bybit": VenueTraits(
        "api.bybit.com",
        1000,
        # ccxt rounds the start of weeks and months up to multiples of 7 and 30 days since 1970.
        start_param="start",
        end_param="until",
        listing=Listing.COARSE_BARS,
        listing_calls=4,
        anchors={"1w": _MONDAY},
        bars_path=("result", "list"),
        market_stages=(("spot",), ("linear", "inverse", "option")),
        skip_currencies=True,
        # It answers 403 to a host that calls too often.
        quota_statuses=frozenset({403, 418, 429}),
    ),
    # Its `end` is inclusive: a window of 300 bars would be 301.
    "coinbase": VenueTraits(
        "api.coinbase.com",
        299,
        end_param="until",
        listing=Listing.COARSE_BARS,
        listing_calls=24,
        bars_path=("candles",),
        skip_currencies=True,
        bar_budget_ms=102.0,
        unknown_symbol="valid product_id is required",
    ),
    "coinbaseexchange": VenueTraits(
        "api.exchange.coinbase.com",
        299,
        end_param="until",
        listing=Listing.COARSE_BARS,
        listing_calls=24,
        bars_path=(),
    ),
    "kraken": VenueTraits(
        "api.kraken.com",
        720,
        depth_bars=720,
        newest_only=True,
        listing=Listing.SHORT_ANSWER,
        listing_calls=1,
        misnamed=frozenset({"2w"}),  # 21,600 minutes, which are 15 days
        bars_path=("result", ANY_KEY),
        skip_currencies=True,
        bar_budget_ms=1200.0,
        unknown_symbol="EQuery:Unknown asset pair",
    ),
    # It serves 1,500 bars of a window, 200 of contracts. Whether the end that ccxt gives belongs to the window, no page
    # says: one bar less and the end are not too many.
    "kucoin": VenueTraits(
        "api.kucoin.com",
        1499,
        page_contract_bars=199,
        listing=Listing.COARSE_BARS,
        listing_calls=4,
        anchors={"1w": _THURSDAY},
        bars_path=("data",),
        host_groups={"futures": "futures"},
        bar_budget_ms=22.5,
    ),
    # Older than 9,998 bars it answers "Candlestick too long ago": some room for bars that grow too old meanwhile.
    "gate": VenueTraits(
        "api.gateio.ws",
        999,
        depth_bars=9900,
        end_param="until",
        bars_path=(),
        bar_budget_ms=50.0,
    ),
    # Its history endpoint serves the last 200 bars of a longer window; ccxt shortens wide bars and contracts further.
    "bitget": VenueTraits(
        "api.bitget.com",
        200,
        page_wide_bars=100,
        longest_contract_window=90 * MICROS_PER_DAY,
        bars_path=("data",),
        bar_budget_ms=50.0,
    ),
    "mexc": VenueTraits("api.mexc.com", 500, host_groups={"contract": "contract"}, bar_budget_ms=50.0),
    # Its days begin at 16:00 UTC, which is learned from a bar.
    "htx": VenueTraits(
        "api.huobi.pro",
        1000,
        end_param="until",
        bars_path=("data",),
        host_groups={"contract": "contract"},
    ),
    # It serves 10,000, which would block the event loop for 34 ms a page.
    "bitfinex": VenueTraits(
        "api.bitfinex.com",
        1000,
        end_param="until",
        listing=Listing.START_OF_TIME,
        listing_calls=2,
        bars_path=(),
        bar_budget_ms=250.0,
    ),
    "bitstamp": VenueTraits(
        "www.bitstamp.net",
        1000,
        end_param="until",
        listing=Listing.COARSE_BARS,
        listing_calls=8,
        misnamed=frozenset({"1w"}),  # 259,200 seconds, which are 3 days
        bars_path=("data", "ohlc"),
        bar_budget_ms=75.0,
    ),
    "upbit": VenueTraits("api.upbit.com", 200, bars_path=()),
    "bithumb": VenueTraits("api.bithumb.com", 200, depth_bars=200, newest_only=True),
    "gemini": VenueTraits("api.gemini.com", 500, bars_path=()),
    # With a limit ccxt makes an end of its own, of which only the newest `limit` bars would come.
    "cryptocom": VenueTraits(
        "api.crypto.com",
        300,
        end_param="end_ts",
        bars_path=("result", "data"),
        bar_budget_ms=10.0,
    ),
    "deribit": VenueTraits(
        "www.deribit.com", 1000, end_param="until", bars_path=("result", "ticks"), bar_budget_ms=50.0
    ),
    "hyperliquid": VenueTraits(
        "api.hyperliquid.xyz",
        1000,
        depth_bars=4990,  # of 5,000: some room for bars that grow too old meanwhile
        end_param="until",
        anchors={"1w": _THURSDAY},
        bars_path=(),
        bar_budget_ms=50.0,
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
        anchors=traits.anchors,
        listing_calls=traits.listing_calls or None,
    )
