"""What a loopback venue has seen happen: the markets it lists, their bars and their trades.

Everything is named as ccxt does (`BTC/USDT`, `BTC/USDT:USDT`, `1m`), so that one test can drive every dialect; a
dialect turns names and numbers into its own. Bars come from a `Candles` of the demo (made up, or given rows).
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from historyd.demo.candles import RandomWalk
from historyd.model.time_range import MICROS_PER_MS
from historyd.model.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from historyd.demo.candles import Candle, Candles


class Tick(NamedTuple):
    """One trade: id, nanoseconds since 1970, price and amount as decimal text, the taker's side (`buy`, `sell`)."""

    id: int
    at_ns: int
    price: str
    amount: str
    side: str

    @property
    def at_ms(self) -> int:
        return self.at_ns // 1_000_000


@dataclass(frozen=True)
class Traded:
    """Made-up candles of a market as venues have them: a bar of any width is there if it was traded in.

    Attributes:
        listed_ms: the first trade; the bars of its minute, day and month open before it.
        quiet_ms: spans `[start, end)` without a trade.
    """

    listed_ms: int = 0
    quiet_ms: tuple[tuple[int, int], ...] = ()

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int) -> list[Candle]:
        """The first `limit` bars that open in `[start_ms, end_ms]`, ascending."""
        grid = Timeframe.parse(interval).grid()
        first_ms = grid.floor(self.listed_ms * MICROS_PER_MS) // MICROS_PER_MS
        return list(itertools.islice(self._ascending(symbol, interval, max(first_ms, start_ms), end_ms), limit))

    def last(self, symbol: str, interval: str, end_ms: int, limit: int) -> list[Candle]:
        """The last `limit` bars that open at or before `end_ms`, ascending."""
        grid = Timeframe.parse(interval).grid()
        found: list[Candle] = []
        while len(found) < limit and end_ms >= grid.floor(self.listed_ms * MICROS_PER_MS) // MICROS_PER_MS:
            start_ms = grid.back(end_ms * MICROS_PER_MS + 1, limit) // MICROS_PER_MS
            found = [*self.bars(symbol, interval, start_ms, end_ms, limit), *found]
            end_ms = start_ms - 1
        return found[-limit:]

    def _ascending(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> Iterator[Candle]:
        grid = Timeframe.parse(interval).grid()
        while rows := RandomWalk(0).bars(symbol, interval, start_ms, end_ms, 1000):
            for row in rows:
                index = grid.index_of(row[0] * MICROS_PER_MS)
                if self._was_traded(row[0], grid.time_of(index + 1) // MICROS_PER_MS):
                    yield row
            start_ms = rows[-1][0] + 1

    def _was_traded(self, start_ms: int, end_ms: int) -> bool:
        first_ms = max(start_ms, self.listed_ms)
        return first_ms < end_ms and not any(quiet <= first_ms and end_ms <= loud for quiet, loud in self.quiet_ms)


@dataclass(frozen=True)
class Tape:
    """What happened.

    Attributes:
        symbols: the markets listed.
        candles: the bars, by symbol and timeframe; the open one included, if it has one.
        ticks: the trades by symbol, ascending by time and by id.
    """

    symbols: Sequence[str]
    candles: Candles = field(default_factory=RandomWalk)
    ticks: Mapping[str, Sequence[Tick]] = field(default_factory=dict)

    def trades(self, symbol: str, start_ns: int | None = None, end_ns: int | None = None) -> Sequence[Tick]:
        """The trades of `[start_ns, end_ns)`, ascending; None: no bound."""
        ticks = self.ticks.get(symbol, ())
        first = 0 if start_ns is None else bisect.bisect_left(ticks, start_ns, key=_at_ns)
        end = len(ticks) if end_ns is None else bisect.bisect_left(ticks, end_ns, key=_at_ns)
        return ticks[first:end]

    def trades_by_id(self, symbol: str, first: int | None = None, end: int | None = None) -> Sequence[Tick]:
        """The trades with ids in `[first, end)`, ascending; None: no bound."""
        ticks = self.ticks.get(symbol, ())
        low = 0 if first is None else bisect.bisect_left(ticks, first, key=_id)
        high = len(ticks) if end is None else bisect.bisect_left(ticks, end, key=_id)
        return ticks[low:high]


def make_ticks(first_ms: int, count: int, step_ms: float, first_id: int = 1) -> list[Tick]:
    """Trades made up: one every `step_ms` (below 1: several in a millisecond), every third one sold."""
    step_ns = int(step_ms * 1_000_000)
    return [
        Tick(
            first_id + at,
            first_ms * 1_000_000 + at * step_ns,
            f"{60_000 + at % 97}.{at % 100:02d}",
            f"0.{1 + at % 999:05d}",
            "sell" if at % 3 == 0 else "buy",
        )
        for at in range(count)
    ]


def _at_ns(tick: Tick) -> int:
    return tick.at_ns


def _id(tick: Tick) -> int:
    return tick.id
