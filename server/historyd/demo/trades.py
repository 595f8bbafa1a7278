"""Where the loopback exchange takes its trades from: made up but believable, or given rows.

`RandomTrades` has the same number of trades in every minute, at the prices of the walk of `RandomWalk`; a trade's id
tells its minute, so that any window costs only its own length. Every fifth one has the time of the one before it, as
an order that is filled by several has. `GivenTrades` serves recorded ones.
"""

from __future__ import annotations

import bisect
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from historyd.demo.candles import noise, walk_price

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Trade = tuple[int, int, str, str, bool]
"""Id; time in ms; price and amount as decimal text; whether the buyer was the maker."""

_MINUTE_MS: Final = 60_000
_A_MINUTE: Final = 40
_MOST_MINUTES: Final = 1_000
_FAR_ID: Final = 2**62


class Trades(Protocol):
    """A source of trades."""

    def between(self, symbol: str, start_ms: int, end_ms: int, limit: int) -> Sequence[Trade]:
        """The first `limit` trades of `[start_ms, end_ms]`, ascending."""

    def from_id(self, symbol: str, first: int, end_ms: int, limit: int) -> Sequence[Trade]:
        """The first `limit` trades with ids from `first` on, ascending, none later than `end_ms`."""

    def last(self, symbol: str, end_ms: int, limit: int) -> Sequence[Trade]:
        """The last `limit` trades that are not later than `end_ms`, ascending."""


@dataclass(frozen=True)
class RandomTrades:
    """Made-up trades.

    Attributes:
        listed_ms: the first trade is in the first whole minute after this, with the id 0.
        outages_ms: spans `[start, end)` without trades, for all symbols.
    """

    listed_ms: int = 1_502_942_400_000
    outages_ms: tuple[tuple[int, int], ...] = ()

    def between(self, symbol: str, start_ms: int, end_ms: int, limit: int) -> list[Trade]:
        """The first `limit` trades of `[start_ms, end_ms]`, ascending."""
        first = max(0, (start_ms // _MINUTE_MS - self._first_minute) * _A_MINUTE)
        return self._collect(symbol, first, start_ms, end_ms, limit)

    def from_id(self, symbol: str, first: int, end_ms: int, limit: int) -> list[Trade]:
        """The first `limit` trades with ids from `first` on, ascending, none later than `end_ms`."""
        return self._collect(symbol, max(0, first), 0, end_ms, limit)

    def last(self, symbol: str, end_ms: int, limit: int) -> list[Trade]:
        """The last `limit` trades that are not later than `end_ms`, ascending."""
        minutes = -(-limit // _A_MINUTE) + 1
        return self.between(symbol, end_ms - minutes * _MINUTE_MS, end_ms, _FAR_ID)[-limit:]

    @property
    def _first_minute(self) -> int:
        return -(-self.listed_ms // _MINUTE_MS)

    def _collect(self, symbol: str, first_id: int, start_ms: int, end_ms: int, limit: int) -> list[Trade]:
        found: list[Trade] = []
        minute, end = self._first_minute + first_id // _A_MINUTE, end_ms // _MINUTE_MS + 1
        while len(found) < limit and minute < end:
            count = min(end - minute, -(-limit // _A_MINUTE) + 1, _MOST_MINUTES)
            found += [
                trade
                for trade in self._minutes(symbol, minute, count)
                if trade[0] >= first_id and start_ms <= trade[1] <= end_ms
            ]
            minute += count
        return found[:limit]

    def _minutes(self, symbol: str, minute: int, count: int) -> list[Trade]:
        """The trades of so many minutes."""
        seed = zlib.crc32(symbol.encode())
        ids = np.arange(_A_MINUTE * count, dtype=np.int64) + (minute - self._first_minute) * _A_MINUTE
        offsets = np.sort((noise(ids, seed + 11) * _MINUTE_MS).astype(np.int64).reshape(count, _A_MINUTE), axis=1)
        offsets[:, 4::5] = offsets[:, 3::5]
        times = ((minute + np.arange(count))[:, None] * _MINUTE_MS + offsets).ravel()
        prices, amounts = walk_price(times, symbol, seed), 0.001 + 2.0 * noise(ids, seed + 12) ** 4
        makers = noise(ids, seed + 13) < 0.5
        digits = 2 if prices[0] >= 1.0 else 6
        columns = zip(ids.tolist(), times.tolist(), prices, amounts, makers.tolist(), strict=True)
        return [
            (number, at, f"{price:.{digits}f}", f"{amount:.5f}", maker)
            for number, at, price, amount, maker in columns
            if not any(start <= at < end for start, end in self.outages_ms)
        ]


@dataclass
class GivenTrades:
    """Serves given trades, by symbol. They are sorted by id, which must be the order of their times, too."""

    given: Mapping[str, Iterable[Trade]]
    _rows: dict[str, list[Trade]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = {symbol: sorted(rows) for symbol, rows in self.given.items()}

    def between(self, symbol: str, start_ms: int, end_ms: int, limit: int) -> Sequence[Trade]:
        """The first `limit` trades of `[start_ms, end_ms]`, ascending."""
        rows = self._until(symbol, end_ms)
        first = bisect.bisect_left(rows, start_ms, key=lambda row: row[1])
        return rows[first : first + limit]

    def from_id(self, symbol: str, first: int, end_ms: int, limit: int) -> Sequence[Trade]:
        """The first `limit` trades with ids from `first` on, ascending, none later than `end_ms`."""
        rows = self._until(symbol, end_ms)
        begin = bisect.bisect_left(rows, first, key=lambda row: row[0])
        return rows[begin : begin + limit]

    def last(self, symbol: str, end_ms: int, limit: int) -> Sequence[Trade]:
        """The last `limit` trades that are not later than `end_ms`, ascending."""
        return self._until(symbol, end_ms)[-limit:]

    def _until(self, symbol: str, end_ms: int) -> list[Trade]:
        rows = self._rows.get(symbol, [])
        return rows[: bisect.bisect_right(rows, end_ms, key=lambda row: row[1])]
