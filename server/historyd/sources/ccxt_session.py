"""One exchange of the CCXT source: the ccxt instance and its markets, both made when first needed and then kept.

Markets are loaded in a task of their own, one load at a time: ccxt shares one task between callers, so that
cancelling one of them would cancel all. A venue with `market_stages` loads what the symbol needs: Binance's spot
markets are one call, its perpetuals two more on other hosts (which may refuse us while spot does not).

Promises: a failed load is tried again by the next caller; markets older than `FRESH_FOR` are loaded again before a
symbol is said to be unknown, so that a new listing is seen. Never does: ask for rows.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from historyd.errors import BadAnswer, HistoryError, UnknownSymbol, UnknownTimeframe, VenueRefused
from historyd.model.time_range import MICROS_PER_S
from historyd.model.timeframe import Timeframe
from historyd.sources.ccxt_exchange import Question, asked, asking, translate
from historyd.sources.ccxt_setup import build_exchange
from historyd.sources.nearest import nearest_symbols
from historyd.sources.shared import Shared
from historyd.sources.trade_venues import Paging, trade_traits_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from historyd.model.series import SeriesId
    from historyd.model.wait import Observer, Wait
    from historyd.sources.ccxt_exchange import Desk
    from historyd.sources.options import ExchangeOptions

FRESH_FOR: Final = 600 * MICROS_PER_S
"""How old markets may be before a symbol that is not among them is looked for again."""

T = TypeVar("T")


class _ForAll:
    """Tells one caller what a load is doing that many may wait for, and so never ends for that caller's deadline."""

    deadline = None

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @property
    def urgent(self) -> bool:
        return self._observer.urgent

    def waiting(self, wait: Wait) -> None:
        self._observer.waiting(wait)

    def calling(self) -> None:
        with suppress(HistoryError):  # what the caller itself asks for may be another's to do, this is for all
            self._observer.calling()


class Session:
    """The long-lived ccxt instance of one exchange. Everything but `close` runs inside `asking(...)`."""

    def __init__(self, desk: Desk, options: ExchangeOptions, tasks: asyncio.TaskGroup) -> None:
        self.desk = desk
        self._options = options
        self._ccxt = Shared[Any](tasks, self._build)
        chosen = "fetchMarkets" in options.ccxt.get("options", {})
        self._stages: Sequence[Sequence[str]] = ((),) if chosen else desk.traits.market_stages or ((),)
        self._loads = [Shared[int](tasks, self._loader(stage)) for stage in range(len(self._stages))]
        self._loading = asyncio.Lock()
        self._staged: dict[int, list[Any]] = {}

    async def ccxt(self) -> Any:
        """The ccxt instance. No network."""
        return await self._ccxt.get()

    async def call(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Runs a call into ccxt; whatever it raises is an error of the contract."""
        try:
            return await ask()
        except HistoryError:
            raise
        except Exception as error:
            raise translate(error, self.desk) from error

    async def timeframes(self) -> dict[str, Timeframe]:
        """The timeframes that the exchange serves bars of, shortest first; none if it serves no bars. No network."""
        ccxt = await self.ccxt()
        # "emulated" would be bars that ccxt makes of whatever trades it gets.
        names = ccxt.timeframes if ccxt.has["fetchOHLCV"] is True else None
        offered = [name for name in names or () if name not in self.desk.traits.misnamed]
        known = {name: frame for name in offered if (frame := _parse(name)) is not None}
        return dict(sorted(known.items(), key=lambda item: item[1].nominal_width))

    async def check_timeframe(self, series: SeriesId) -> None:
        """Raises UnknownTimeframe, or VenueRefused if the exchange serves no bars at all. No network."""
        served = await self.timeframes()
        if not served:
            raise VenueRefused(f"{series.exchange} serves no bars", exchange=series.exchange)
        if str(series.timeframe) not in served:
            raise UnknownTimeframe(series.exchange, str(series.timeframe), served)

    async def trade_market(self, symbol: str) -> Any:
        """The market of a symbol whose trades are wanted. Raises as `market`, or VenueRefused if there are none."""
        ccxt, exchange = await self.ccxt(), self.desk.exchange
        if ccxt.has["fetchTrades"] is not True or trade_traits_of(exchange).paging is Paging.NONE:
            raise VenueRefused(f"{exchange} serves no trades", exchange=exchange)
        return await self.market(symbol)

    async def market(self, symbol: str) -> Any:
        """The market of a symbol in ccxt's form; loads what markets that needs. Raises UnknownSymbol."""
        ccxt = await self.ccxt()
        # A symbol in ccxt's notation without a colon is a spot symbol; `BTCUSDT` may be meant for anything.
        needed = 1 if "/" in symbol and ":" not in symbol else len(self._stages)
        oldest = await self._load(needed)
        if symbol not in ccxt.markets and oldest + FRESH_FOR < self.desk.host_clock():
            self._forget(needed)
            await self._load(needed)
        if symbol not in ccxt.markets:
            raise UnknownSymbol(self.desk.exchange, symbol, nearest_symbols(symbol, ccxt.markets))
        return ccxt.markets[symbol]

    async def markets(self) -> list[Any]:
        """All markets in ccxt's form."""
        ccxt = await self.ccxt()
        if await self._load(len(self._stages)) + FRESH_FOR < self.desk.host_clock():
            self._forget(len(self._stages))
            await self._load(len(self._stages))
        return list(ccxt.markets.values())

    def cancel(self) -> None:
        """Stops what is being loaded."""
        for load in (*self._loads, self._ccxt):
            load.cancel()

    async def close(self) -> None:
        """Closes the instance's connections."""
        ccxt = self._ccxt.ready
        if ccxt is not None:
            await ccxt.close()

    async def _build(self) -> Any:
        return await asyncio.to_thread(build_exchange, self.desk, self._options)

    async def _load(self, needed: int) -> int:
        """Loads the first stages; returns when the oldest of them was loaded."""
        return min([await load.get() for load in self._loads[:needed]])

    def _forget(self, needed: int) -> None:
        for load in self._loads[:needed]:
            load.forget()

    def _loader(self, stage: int) -> Callable[[], Awaitable[int]]:
        async def load() -> int:
            with asking(Question(_ForAll(asked().observer))):
                async with self._loading:
                    await self.call(lambda: self._load_stage(stage))
            return self.desk.host_clock()

        return load

    async def _load_stage(self, stage: int) -> None:
        ccxt = await self.ccxt()
        if self._stages[stage]:
            ccxt.options["fetchMarkets"] = {"types": list(self._stages[stage])}
            self._staged[stage] = await ccxt.fetch_markets()
            loaded = [market for part in self._staged.values() for market in part]
            ccxt.set_markets(loaded)
        else:
            # Some venues prepare more than markets in their own load_markets.
            loaded = await ccxt.load_markets(True)
        if not loaded:
            raise BadAnswer(f"{self.desk.exchange} answered that it has no markets", exchange=self.desk.exchange)


def _parse(name: str) -> Timeframe | None:
    try:
        return Timeframe.parse(name)
    except ValueError:
        return None
