"""Where the loopback exchange takes its candles from: made up but believable, or given rows.

`RandomWalk` computes a price from the instant alone, as a sum of smooth noises of doubling period, so that any
window costs only its own length and every process, today or tomorrow, sees the same history. A bar opens where the
one before it closed. Bars of different timeframes share opens and closes, but not highs, lows and volumes.
`GivenRows` serves recorded rows. Both name bars by open time in milliseconds and give decimals as text, as the
venue does.
"""

from __future__ import annotations

import bisect
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from historyd.model.time_range import MICROS_PER_MS
from historyd.model.timeframe import FixedGrid, Timeframe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

Candle = tuple[int, str, str, str, str, str | None]
"""Open time in ms; open, high, low, close and volume as decimal text."""

_OCTAVES: Final = 18
_SHORTEST_PERIOD_MS: Final = 60_000.0
_ROUGHNESS: Final = 0.0009
"""Log price moved by the shortest noise; each doubling of the period moves sqrt(2) times as much, as a walk does."""

_LEVELS: Final = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0, "ETHBTC": 0.05}
"""What the made-up price of a well-known pair moves around."""


class Candles(Protocol):
    """A source of candles."""

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int) -> Sequence[Candle]:
        """The first `limit` bars that open in `[start_ms, end_ms]`, ascending; none of what is not listed."""

    def last(self, symbol: str, interval: str, end_ms: int, limit: int) -> Sequence[Candle]:
        """The last `limit` bars that open at or before `end_ms`, ascending."""


@dataclass(frozen=True)
class RandomWalk:
    """Made-up candles.

    Attributes:
        listed_ms: the first bar opens at or after this.
        outages_ms: spans `[start, end)` in which no bar opens, for all symbols.
    """

    listed_ms: int = 1_502_942_400_000
    outages_ms: tuple[tuple[int, int], ...] = ()

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int) -> list[Candle]:
        """The first `limit` bars that open in `[start_ms, end_ms]`, ascending."""
        grid = Timeframe.parse(interval).grid()
        cursor = grid.ceil(max(start_ms, self.listed_ms) * MICROS_PER_MS)
        index, found = grid.index_of(cursor), list[Candle]()
        last = grid.index_of(end_ms * MICROS_PER_MS)
        while len(found) < limit and index <= last:
            count = min(limit - len(found), last - index + 1)
            found += self._candles(symbol, self._opens(grid, index, count))
            index += count
        return found

    def last(self, symbol: str, interval: str, end_ms: int, limit: int) -> list[Candle]:
        """The last `limit` bars that open at or before `end_ms`, ascending."""
        start = Timeframe.parse(interval).grid().back(end_ms * MICROS_PER_MS + 1, limit) // MICROS_PER_MS
        return self.bars(symbol, interval, start, end_ms, limit)

    def _opens(self, grid: object, index: int, count: int) -> NDArray[np.int64]:
        """Open times in ms of `count + 1` bars from `index` on: one more, for the last close."""
        if isinstance(grid, FixedGrid):
            return (grid.time_of(index) + grid.width * np.arange(count + 1)) // MICROS_PER_MS
        times = [grid.time_of(at) // MICROS_PER_MS for at in range(index, index + count + 1)]  # type: ignore[attr-defined]
        return np.array(times, np.int64)

    def _candles(self, symbol: str, edges: NDArray[np.int64]) -> list[Candle]:
        seed = zlib.crc32(symbol.encode())
        prices = walk_price(edges, symbol, seed)
        opens, closes, starts = prices[:-1], prices[1:], edges[:-1]
        wicks = np.abs(closes - opens) * 0.5 + opens * 0.0002
        highs = np.maximum(opens, closes) + wicks * noise(starts, seed + 1)
        lows = np.minimum(opens, closes) - wicks * noise(starts, seed + 2)
        volumes = 0.5 + 40.0 * noise(starts, seed + 3) ** 3 * ((edges[1:] - starts) / 60_000.0)
        digits = 2 if opens[0] >= 1.0 else 6
        columns = zip(starts.tolist(), opens, highs, lows, closes, volumes, strict=True)
        return [
            (at, f"{o:.{digits}f}", f"{h:.{digits}f}", f"{low:.{digits}f}", f"{c:.{digits}f}", f"{v:.5f}")
            for at, o, h, low, c, v in columns
            if not any(start <= at < end for start, end in self.outages_ms)
        ]


class GivenRows:
    """Serves given candles, by (symbol, interval). They are sorted by open time; doubles are kept."""

    def __init__(self, series: Mapping[tuple[str, str], Iterable[Candle]]) -> None:
        self._rows = {key: sorted(rows, key=lambda row: row[0]) for key, rows in series.items()}

    def bars(self, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int) -> Sequence[Candle]:
        """The first `limit` bars that open in `[start_ms, end_ms]`, ascending."""
        rows = self._rows.get((symbol, interval), [])
        first = bisect.bisect_left(rows, start_ms, key=lambda row: row[0])
        end = bisect.bisect_right(rows, end_ms, key=lambda row: row[0])
        return rows[first : min(end, first + limit)]

    def last(self, symbol: str, interval: str, end_ms: int, limit: int) -> Sequence[Candle]:
        """The last `limit` bars that open at or before `end_ms`, ascending."""
        rows = self._rows.get((symbol, interval), [])
        end = bisect.bisect_right(rows, end_ms, key=lambda row: row[0])
        return rows[max(0, end - limit) : end]


def walk_price(times_ms: NDArray[np.int64], symbol: str, seed: int) -> NDArray[np.float64]:
    """The price at each instant: a level of the symbol's own, moved by noises of doubling period."""
    level = np.log(_LEVELS.get(symbol) or 10.0 ** (1.0 + 3.0 * (seed % 1000) / 1000.0))
    log_price = np.full(len(times_ms), level)
    for octave in range(_OCTAVES):
        position = times_ms / (_SHORTEST_PERIOD_MS * 2.0**octave)
        before = np.floor(position)
        share = position - before
        share = share * share * (3.0 - 2.0 * share)
        here = before.astype(np.int64)
        left, right = noise(here, seed + 97 * octave), noise(here + 1, seed + 97 * octave)
        log_price += _ROUGHNESS * 2.0 ** (octave / 2) * (left + (right - left) * share - 0.5)
    prices: NDArray[np.float64] = np.exp(log_price)
    return prices


def noise(keys: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, always the same one (the mixing function of splitmix64)."""
    mixed = keys.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    shares: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53
    return shares
