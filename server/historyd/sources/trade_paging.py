"""How past trades are asked for, each venue's way: what one answer proves, and what to ask for next.

Theory of operation. An answer that was cut at the venue's page size may hold only a part of its last millisecond (its
first one if it was asked for backwards). So an answer proves everything up to, excluding, that millisecond: all trades
of a millisecond are in one answer, their order within it is final, and whoever stores them has nothing to join. If a
whole page is of one millisecond, more is asked for by id or cursor until another one begins. What is known of a place
(the id at which it begins) is kept in `Bookmarks`: it saves the search for it, and is found again if it is lost.

Promises: no time is proved of which a trade may have been left out.
Never does: know ccxt or a store, or remember anything but bookmarks.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from historyd.coverage import Unreachable
from historyd.errors import BadAnswer
from historyd.model.rows import NO_TRADES
from historyd.model.time_range import EARLIEST, LATEST, MICROS_PER_MS, MICROS_PER_S, TimeRange, between
from historyd.sources.trade_venues import Paging, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.sources.trade_venues import TradeTraits

_MOST_BOOKMARKS: Final = 4096
_FINEST_PROBE: Final = 3600 * MICROS_PER_S
"""The beginning of a series is looked for no more exactly than this."""
_SHORTEN: Final = 8
"""A window with too many trades is made so many times shorter."""
_SPAN_MARGIN: Final = 2 * MICROS_PER_S
"""What is taken off "the trades of the last hour": clocks are known to about a second."""


@dataclass(frozen=True, slots=True)
class TradePage:
    """The answer to one call.

    Attributes:
        rows: its trades in the schema `RAW_TRADES`, in the order in which they happened.
        full: there may be more than it holds.
        cursor: the venue's own mark behind the last one, None if it gives none.
    """

    rows: pa.RecordBatch
    full: bool
    cursor: str | None = None


class AskTrades(Protocol):
    """Makes one call for trades."""

    async def __call__(
        self, since_ms: int | None = None, until_ms: int | None = None, *, limit: int | None = None, **params: Any
    ) -> TradePage:
        """Asks for trades from `since_ms` to `until_ms`, at most `limit` (None: a page); `params` are the venue's."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was learned: trades, the time of which these are all, and the time that the venue does not serve.

    Rows outside of `covered` say nothing.
    """

    rows: pa.RecordBatch
    covered: TimeRange | None = None
    unreachable: Unreachable | None = None


class Bookmarks:
    """Of all series of one exchange: the ids at which places begin, and the windows that were not too long."""

    def __init__(self) -> None:
        self.widths: dict[str, int] = {}
        self._ids: OrderedDict[tuple[str, int], str] = OrderedDict()

    def id_at(self, symbol: str, instant: int) -> str | None:
        """The id kept for an instant."""
        return self._ids.get((symbol, instant))

    def keep(self, symbol: str, instant: int, trade_id: str) -> None:
        """Keeps an id; the oldest one goes if there are too many."""
        self._ids[symbol, instant] = trade_id
        if len(self._ids) > _MOST_BOOKMARKS:
            self._ids.popitem(last=False)


@dataclass(slots=True)
class TradePager:
    """Asks for trades of one series in its venue's way; for one question at a time.

    Attributes:
        exchange: the ccxt id.
        symbol: the symbol.
        traits: how the venue is asked.
        ask: makes one call.
        marks: those of the exchange.
        now: the venue's clock, microseconds.
        listed_at: when the exchange says that the market was listed; None if it does not say.
    """

    exchange: str
    symbol: str
    traits: TradeTraits
    ask: AskTrades
    marks: Bookmarks
    now: Callable[[], int]
    listed_at: int | None = None
    _held: list[pa.RecordBatch] = field(default_factory=list)

    async def piece(self, window: TimeRange) -> Piece:
        """Trades of a part of the window that begins where it begins or ends where it ends; perhaps of more.

        The window is in whole milliseconds. What is proved may reach beyond now: all that there is was told.
        """
        if self.traits.paging is Paging.ID_FORWARD:
            return await self._by_id(window.start)
        if self.traits.paging is Paging.TIME_FORWARD:
            return await self._by_time(window.start)
        if self.traits.paging is Paging.WINDOWS:
            return await self._by_windows(window)
        if self.traits.paging is Paging.ID_BACKWARD:
            return await self._backwards(window)
        return await self._latest()

    async def beginning(self) -> Piece | None:
        """What is known of the time before the first trade, without trades; None if there is no cheap way to tell."""
        if self.traits.probe is Probe.FIRST:
            return await self._first()
        if self.traits.probe is Probe.HALVING:
            return await self._halved()
        if self.traits.paging is Paging.LATEST:
            return Piece(NO_TRADES, None, (await self._latest()).unreachable)
        return None

    async def _by_id(self, start: int) -> Piece:
        mark = self.marks.id_at(self.symbol, start)
        page, behind = await self._seek(start) if mark is None else (await self.ask(fromId=mark), LATEST)
        while page.full:
            rows = self._hold(page)
            last = _last_ms(rows)
            if last > start:
                self._keep_id(last, _first_id_since(rows, last))
                return Piece(rows, TimeRange(start, last))
            # All in one millisecond, and perhaps not all of that.
            page, behind = await self.ask(fromId=str(self._whole_id(rows, -1) + 1)), LATEST
        rows = self._hold(page)
        if rows.num_rows and behind < LATEST:
            self._keep_id(behind, str(self._whole_id(rows, -1) + 1))
        return Piece(rows, TimeRange(start, behind))

    async def _seek(self, start: int) -> tuple[TradePage, int]:
        """Trades from an instant on, found by time; and the instant up to which they are all if they are not full.

        Of a window with too many trades it is not known which ones come: so windows are shortened until one has few.
        """
        width = min(self.traits.longest, self.marks.widths.get(self.symbol, LATEST))
        while True:
            page = await self.ask(start // MICROS_PER_MS, (start + width) // MICROS_PER_MS - 1)
            if not page.full:
                self.marks.widths[self.symbol] = width * 2
                return page, start + width
            if width <= MICROS_PER_MS:
                return await self._from_first_of(start, self._whole_id(page.rows, 0)), LATEST
            width = max(MICROS_PER_MS, width // _SHORTEN // MICROS_PER_MS * MICROS_PER_MS)

    async def _from_first_of(self, start: int, known: int) -> TradePage:
        """The page that begins with the first trade of the millisecond `start`, of which the id `known` is one."""
        before = known
        while before > 0:
            before = max(0, before - self.traits.page_trades)
            page = await self.ask(fromId=str(before))
            first = _first_id_since(page.rows, start)
            known = known if first is None else min(known, int(first))
            if _first_ms(page.rows) < start:
                break
        return await self.ask(fromId=str(known))

    async def _by_time(self, start: int) -> Piece:
        page, cursor = await self._since(start), None
        while page.full:
            rows = self._hold(page)
            last = _last_ms(rows)
            if last > start:
                return Piece(rows, TimeRange(start, last))
            if page.cursor is None or page.cursor == cursor:
                if last < start:
                    raise BadAnswer(f"{self.exchange} answered with trades of another time", exchange=self.exchange)
                return self._too_many(TimeRange(start, start + MICROS_PER_MS))
            cursor = page.cursor
            page = await self.ask(since=cursor)
        return Piece(self._hold(page), TimeRange(start, LATEST))

    async def _since(self, instant: int) -> TradePage:
        if self.exchange == "kraken":
            # Its own `since` is in nanoseconds, and what follows it; ccxt's would be cut to seconds.
            return await self.ask(since=str(max(0, instant * 1000 - 1)))
        return await self.ask(instant // MICROS_PER_MS)

    async def _by_windows(self, window: TimeRange) -> Piece:
        """Halves the window until an answer is not full: which trades are left out of a full one is not known."""
        start, unit = window.start, self.traits.unit
        end = min(window.end, start + min(self.traits.longest, self.marks.widths.get(self.symbol, LATEST)))
        while True:
            page = await self._within(start, end)
            if not page.full:
                # Busy times are not to be halved again and again, nor quiet ones asked for bit by bit.
                few = page.rows.num_rows * 2 < self.traits.page_trades
                self.marks.widths[self.symbol] = max(2 * unit, (end - start) * (2 if few else 1))
                return Piece(page.rows, TimeRange(start, end))
            middle = (start + end) // 2 // unit * unit
            if middle <= start:
                return self._too_many(TimeRange(start, end))
            end = middle

    async def _within(self, start: int, end: int) -> TradePage:
        """The trades of a window, and some around it: at the venue both ends may be exclusive."""
        unit = self.traits.unit
        first, last = max(0, (start - 1) // unit * unit), -(-end // unit) * unit
        if self.traits.from_param is not None:
            return await self.ask(None, last // MICROS_PER_MS, **{self.traits.from_param: first // MICROS_PER_S})
        return await self.ask(first // MICROS_PER_MS, last // MICROS_PER_MS)

    async def _backwards(self, window: TimeRange) -> Piece:
        end = window.end
        mark = self.marks.id_at(self.symbol, end)
        page = await (self._before(end) if mark is None else self.ask(after=mark, type="1"))
        while page.rows.num_rows:
            rows = self._hold(page, in_front=True)
            behind = _first_ms(rows) + MICROS_PER_MS
            if behind < end:
                self._keep_id(behind, _first_id_since(rows, behind) or mark)
                return Piece(rows, TimeRange(behind, end))
            # All in one millisecond, and perhaps not all of that.
            page = await self.ask(after=str(self._whole_id(rows, 0)), type="1")
        if not self._held:
            return self._nothing_before(end, window.start)
        rows = self._hold(page)
        first = _first_ms(rows)
        self._keep_id(first, _first_id_since(rows, first))
        return Piece(rows, between(first, end))

    async def _before(self, instant: int, limit: int | None = None) -> TradePage:
        """The last trades before an instant."""
        if self.traits.paging is Paging.ID_BACKWARD:
            return await self.ask(limit=limit, after=str(instant // MICROS_PER_MS), type="2")
        return await self.ask(0, instant // MICROS_PER_MS, limit=limit)

    async def _latest(self) -> Piece:
        page = await self.ask()
        if page.rows.num_rows == 0:
            return Piece(page.rows, None, self._unserved(self.now()))
        begin = _first_ms(page.rows) + MICROS_PER_MS
        if self.traits.latest_span is not None:
            begin = min(begin, self.now() + _SPAN_MARGIN - self.traits.latest_span)
        return Piece(page.rows, TimeRange(begin, LATEST), self._unserved(begin))

    async def _first(self) -> Piece | None:
        page = await (self.ask(fromId="0", limit=1) if self.traits.paging is Paging.ID_FORWARD else self._since(0))
        if page.rows.num_rows == 0:
            return None
        first = _first_ms(page.rows)
        if self.traits.paging is Paging.ID_FORWARD:
            # A venue that took id 0 for none would have answered with its latest, and years would pass for empty.
            first_ms, longest_ms = first // MICROS_PER_MS, self.traits.longest // MICROS_PER_MS
            if (await self.ask(max(0, first_ms - longest_ms), first_ms - 1, limit=1)).rows.num_rows:
                return None
        return Piece(NO_TRADES, between(EARLIEST, first))

    async def _halved(self) -> Piece | None:
        """Asks what is before an instant, again and again, halving the time in which the beginning must lie."""
        latest = self.now()
        earliest = EARLIEST if self.traits.depth is None else latest - self.traits.depth
        if self.traits.depth is not None and (await self._before(earliest + _FINEST_PROBE, 1)).rows.num_rows:
            return None
        while latest - earliest > _FINEST_PROBE:
            middle = (earliest + latest) // 2 // self.traits.unit * self.traits.unit
            some = (await self._before(middle, 1)).rows.num_rows > 0
            earliest, latest = (earliest, middle) if some else (middle, latest)
        if self.traits.paging is Paging.ID_BACKWARD:
            return self._nothing_before(earliest)
        return Piece(NO_TRADES, between(EARLIEST, earliest))

    def _nothing_before(self, end: int, start: int = EARLIEST) -> Piece:
        """The venue has no trade in [start, end): none happened if the market is younger than what it serves."""
        depth, listed_at = self.traits.depth, self.listed_at
        if listed_at is not None and depth is not None and listed_at > self.now() - depth:
            return Piece(NO_TRADES, between(start, end))
        return Piece(NO_TRADES, None, self._unserved(end))

    def _unserved(self, end: int) -> Unreachable:
        latest = self.traits.paging is Paging.LATEST
        reason = f"{self.exchange} serves {'only its latest trades' if latest else 'no trades of so early a time'}"
        return Unreachable(TimeRange(EARLIEST, max(end, EARLIEST + 1)), reason)

    def _too_many(self, span: TimeRange) -> Piece:
        reason = f"{self.exchange} has more trades of this moment than it serves of one"
        return Piece(NO_TRADES, None, Unreachable(span, reason))

    def _hold(self, page: TradePage, *, in_front: bool = False) -> pa.RecordBatch:
        """All trades of this question so far, in their order."""
        self._held = [page.rows, *self._held] if in_front else [*self._held, page.rows]
        return self._held[0] if len(self._held) == 1 else pa.concat_batches(self._held)

    def _keep_id(self, instant: int, trade_id: str | None) -> None:
        if trade_id is not None:
            self.marks.keep(self.symbol, instant, trade_id)

    def _whole_id(self, rows: pa.RecordBatch, at: int) -> int:
        text = rows.column(1)[at].as_py()
        if text is None or not text.isdecimal():
            raise BadAnswer(f"{self.exchange} answered with trades without their ids", exchange=self.exchange)
        return int(text)


def _stamps(rows: pa.RecordBatch) -> list[int]:
    return [stamp for stamp in rows.column(0).cast(pa.int64()).to_pylist() if stamp is not None]


def _last_ms(rows: pa.RecordBatch) -> int:
    """The millisecond of the last trade, in microseconds; EARLIEST if none has a time."""
    return max(_stamps(rows), default=EARLIEST) // MICROS_PER_MS * MICROS_PER_MS


def _first_ms(rows: pa.RecordBatch) -> int:
    """The millisecond of the first trade, in microseconds; LATEST if none has a time."""
    return min(_stamps(rows), default=LATEST) // MICROS_PER_MS * MICROS_PER_MS


def _first_id_since(rows: pa.RecordBatch, instant: int) -> str | None:
    """The id of the first trade at or after the instant."""
    stamps = rows.column(0).cast(pa.int64()).to_pylist()
    at = next((at for at, stamp in enumerate(stamps) if stamp is not None and stamp >= instant), None)
    return None if at is None else rows.column(1)[at].as_py()
