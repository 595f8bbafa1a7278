"""Every venue's way to page, over venues in memory, against what happened: each trade once, numbered in its order."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historyd.coverage import subtract
from historyd.model.rows import RAW_TRADES
from historyd.model.time_range import LATEST, MICROS_PER_MS, MICROS_PER_S, TimeRange, between
from historyd.quality.trades import judge_trades
from historyd.sources.trade_paging import Bookmarks, TradePage, TradePager
from historyd.sources.trade_venues import Paging, TradeTraits

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

T = TypeVar("T")
Trade = tuple[int, int]
"""Milliseconds and id."""
NOW_MS: Final = 200_000


@dataclass
class Venue:
    """Trades in memory, served as a paging says; of a window that has too many, `keeps` says which ones come."""

    trades: Sequence[Trade]
    paging: Paging
    limit: int
    keeps: str = "first"
    calls: int = 0
    marks: Bookmarks = field(default_factory=Bookmarks)

    def pager(self) -> TradePager:
        unit = MICROS_PER_S if self.paging is Paging.WINDOWS else MICROS_PER_MS
        traits = TradeTraits(self.paging, self.limit, unit=unit, longest=40 * MICROS_PER_S)
        return TradePager("kraken", "A/B", traits, self.ask, self.marks, lambda: NOW_MS * MICROS_PER_MS)

    async def ask(
        self, since_ms: int | None = None, until_ms: int | None = None, *, limit: int | None = None, **params: Any
    ) -> TradePage:
        self.calls += 1
        most = limit or self.limit
        found, newest = self._found(since_ms, until_ms, params)
        kept = found[-most:] if newest else found[:most]
        # Nanoseconds of the last one: trades of one millisecond are a microsecond apart, their ordinal.
        cursor = str(self._ns(kept[-1])) if kept and "since" in params else None
        return TradePage(raw(kept), len(kept) >= most, cursor)

    def _found(self, since_ms: int | None, until_ms: int | None, params: dict[str, Any]) -> tuple[list[Trade], bool]:
        trades = list(self.trades)
        if "fromId" in params:
            return [one for one in trades if one[1] >= int(params["fromId"])], False
        if "since" in params:
            return [one for one in trades if self._ns(one) > int(params["since"])], False
        if params.get("type") == "1":
            return [one for one in trades if one[1] < int(params["after"])], True
        if params.get("type") == "2":
            return [one for one in trades if one[0] < int(params["after"])], True
        low, high = since_ms or 0, LATEST if until_ms is None else until_ms
        return [one for one in trades if low <= one[0] <= high], self.keeps == "last"

    def _ns(self, trade: Trade) -> int:
        first = bisect_left(self.trades, (trade[0], 0))
        return trade[0] * 1_000_000 + (self.trades.index(trade) - first) * 1000


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError


def raw(trades: Sequence[Trade]) -> pa.RecordBatch:
    columns = [
        pa.array([ms * MICROS_PER_MS for ms, _ in trades], pa.int64()).cast(RAW_TRADES.field("ts").type),
        pa.array([str(number) for _, number in trades], pa.string()),
        pa.array([1.0] * len(trades), pa.float64()),
        pa.array([2.0] * len(trades), pa.float64()),
        pa.array(["buy"] * len(trades), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RAW_TRADES)


async def collect(
    venue: Venue, window: TimeRange, *, forgets: bool
) -> tuple[list[tuple[int, int, str]], list[TimeRange]]:
    """What a caller keeps who asks for what is left until nothing is, as the engine does: rows, unreachable time."""
    done: list[TimeRange] = []
    gone: list[TimeRange] = []
    rows: dict[tuple[int, int], str] = {}
    while left := subtract(window, sorted([*done, *gone])):
        if forgets:  # after a crash
            venue.marks = Bookmarks()
        piece = await venue.pager().piece(left[0])
        if piece.unreachable is not None:
            gone.append(piece.unreachable.range)
        proved = piece.covered and between(piece.covered.start, min(piece.covered.end, window.end))
        if proved:
            verdict = judge_trades(piece.rows, proved)
            assert not verdict.quarantined
            rows = {key: text for key, text in rows.items() if key[0] not in proved}
            stamps = verdict.rows.column(0).cast(pa.int64())
            cells = [column.to_pylist() for column in (stamps, *verdict.rows.columns[1:3])]
            rows |= {(ts, seq): text for ts, seq, text in zip(*cells, strict=True)}
            done.append(proved)
        assert proved or piece.unreachable, "or nobody would ever be done"
        assert venue.calls < 5_000
    return [(*key, text) for key, text in sorted(rows.items())], gone


def oracle(trades: Sequence[Trade], window: TimeRange) -> list[tuple[int, int, str]]:
    """What happened, numbered by looking at every trade."""
    rows = []
    for ms, number in trades:
        seq = sum(other[0] == ms and other[1] < number for other in trades)
        if ms * MICROS_PER_MS in window:
            rows.append((ms * MICROS_PER_MS, seq, str(number)))
    return rows


TRADES = st.builds(
    lambda times, steps: [
        (ms, number)
        for ms, number in zip(sorted(times), [sum(steps[: at + 1]) for at in range(len(times))], strict=False)
    ],
    st.lists(st.sampled_from([1, 2, 3, 500, 999, 1000, 1001, 60_000, 60_001, 150_000]), max_size=24),
    st.lists(st.integers(1, 3), min_size=24, max_size=24),
)


@pytest.mark.parametrize("keeps", ["first", "last"])
@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("paging", [Paging.ID_FORWARD, Paging.TIME_FORWARD, Paging.ID_BACKWARD])
@settings(max_examples=30)
@given(trades=TRADES, limit=st.integers(2, 7), start=st.integers(0, 1002))
def test_cut_anywhere_all_trades_come_once_in_their_order(
    paging: Paging, keeps: str, forgets: bool, trades: list[Trade], limit: int, start: int
) -> None:
    window = TimeRange(start * MICROS_PER_MS, NOW_MS * MICROS_PER_MS)
    venue = Venue(trades, paging, limit, keeps)
    rows, gone = run(collect(venue, window, forgets=forgets))
    assert [row for row in rows if row[0] in window] == oracle(trades, window)
    assert set(rows) <= set(oracle(trades, TimeRange(0, window.end))), "what came beside the window is true as well"
    assert not gone or paging is Paging.ID_BACKWARD, "only who is asked backwards does not know what was before"
    assert not any(ms * MICROS_PER_MS in span for span in gone for ms, _ in trades)


@settings(max_examples=50)
@given(trades=TRADES, limit=st.integers(2, 7), keeps=st.sampled_from(["first", "last"]))
def test_windows_lose_only_what_they_say_is_lost(trades: list[Trade], limit: int, keeps: str) -> None:
    window = TimeRange(0, NOW_MS * MICROS_PER_MS)
    rows, gone = run(collect(Venue(trades, Paging.WINDOWS, limit, keeps), window, forgets=False))
    assert rows == [row for row in oracle(trades, window) if not any(row[0] in span for span in gone)]
    for span in gone:
        near = [ms for ms, _ in trades if span.start - 2 * MICROS_PER_S <= ms * 1000 <= span.end + MICROS_PER_S]
        assert len(near) >= limit
        assert span.width <= 2 * MICROS_PER_S


@given(trades=TRADES, limit=st.integers(2, 7))
def test_the_latest_trades_prove_what_lies_between_them_and_no_more(trades: list[Trade], limit: int) -> None:
    venue = Venue(trades, Paging.LATEST, limit, "last")
    piece = run(venue.pager().piece(TimeRange(0, NOW_MS * MICROS_PER_MS)))
    assert piece.unreachable is not None
    assert venue.calls == 1
    if piece.covered is None:
        assert not trades
        return
    window = TimeRange(piece.covered.start, NOW_MS * MICROS_PER_MS)
    rows = judge_trades(piece.rows, window).rows
    assert rows.column("id").to_pylist() == [text for _, _, text in oracle(trades, window)]
    assert rows.num_rows < limit
    assert piece.unreachable.range == TimeRange(0, piece.covered.start)
