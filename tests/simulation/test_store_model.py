"""The embedded store against a naive model of it: a dictionary of points in time. Hypothesis writes the history."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from historyd.coverage import Covered, Fact, merge
from historyd.model.page import Layout
from historyd.model.rows import EMPTY, SCHEMAS, Quarantined, RowKey
from historyd.model.series import Kind
from historyd.model.time_range import MICROS_PER_MS, TimeRange
from historyd.model.venue import Origin
from historyd.stores.blocks import BlockForm
from historyd.stores.embedded import EmbeddedStore, open_embedded
from tests.rows import BTC, BTC_TRADES, MINUTE, bars, trades

POINTS = 60
FORM = BlockForm(full_rows={Kind.OHLCV: 12, Kind.TRADES: 9}, small_rows=4)
"""So small that a few commits join, split and cut blocks in every way."""
windows = st.tuples(st.integers(0, POINTS - 1), st.integers(1, POINTS)).map(lambda pair: (pair[0], pair[0] + pair[1]))
ages = st.sampled_from([1, 2, 3, 10**15, 10**15 + 1])
"""The first three make an empty answer provisional."""


@dataclass(frozen=True)
class Known:
    """What the model knows of one point: which commit covers it, and the rows and bad rows at it."""

    commit: int
    asked_at: int
    rows: tuple[float, ...]
    bad: int


class StoreModel(RuleBasedStateMachine):
    """Bars, two points a minute: a bar can be only on even points, a range may begin and end on any."""

    series = BTC
    unit = MINUTE // 2

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = TemporaryDirectory()
        self.path = Path(self.directory.name) / "store.db"
        self.points: dict[int, Known] = {}
        self.revised: set[int] = set()
        self.commits = 0
        self.price = 0
        self.runner.run(self._open())

    def rows_at(self, point: int, dice: int) -> int:
        """How many rows the exchange has at a point; `dice` is from 0 to 3."""
        return int(point % 2 == 0 and dice > 0)

    def build(self, rows: dict[int, tuple[float, ...]], price: float) -> pa.RecordBatch:
        return bars([point // 2 for point, values in sorted(rows.items()) if values], price)

    async def _open(self) -> None:
        self.stack = AsyncExitStack()
        self.store: EmbeddedStore = await self.stack.enter_async_context(open_embedded(self.path, form=FORM))
        await self.store.open_series(self.series, Origin("h"), Layout(10))

    async def _close(self) -> None:
        await self.stack.aclose()

    def _range(self, window: tuple[int, int]) -> TimeRange:
        return TimeRange(window[0] * self.unit, window[1] * self.unit)

    @rule(
        window=windows,
        asked_at=ages,
        dice=st.lists(st.integers(0, 3), min_size=1, max_size=7),
        bad=st.booleans(),
        news=st.booleans(),
    )
    def commit(self, window: tuple[int, int], asked_at: int, dice: list[int], bad: bool, news: bool) -> None:
        """Without `news` rows have the values that the commit before gave them."""
        self.commits += 1
        self.price += news
        price = float(self.price)
        counts = {point: self.rows_at(point, dice[point % len(dice)]) for point in range(*window)}
        rows = {point: (price,) * count for point, count in counts.items()}
        batch = self.build(rows, price)
        set_aside = [Quarantined(window[0] * self.unit, "bad", "[]"), Quarantined(None, "bad", "[]")] if bad else []
        fact = Fact(self._range(window), asked_at, batch.num_rows)
        self.runner.run(self.store.commit(self.series, fact, batch, set_aside))
        for point in range(*window):
            old = self.points.get(point)
            if old is None or old.asked_at <= asked_at:
                bad_here = len(set_aside) if point == window[0] else 0
                if old is not None and old.rows != rows[point]:
                    self.revised.add(point)
                self.points[point] = Known(self.commits, asked_at, rows[point], bad_here)

    @rule(window=windows)
    def forget(self, window: tuple[int, int]) -> None:
        removed = self.runner.run(self.store.forget(self.series, self._range(window)))
        gone = [self.points.pop(point) for point in range(*window) if point in self.points]
        assert removed == sum(len(known.rows) for known in gone)
        self.revised.difference_update(range(*window))

    @rule(window=windows)
    def ask_what_was_revised(self, window: tuple[int, int]) -> None:
        wanted = [point * self.unit for point in sorted(self.revised) if point in range(*window)]
        assert self.runner.run(self.store.revised(self.series, self._range(window))) == wanted

    @rule()
    def reopen(self) -> None:
        self.runner.run(self._close())
        self.runner.run(self._open())

    @rule(window=windows)
    def coverage(self, window: tuple[int, int]) -> None:
        asked = self._range(window)
        expected = [
            Covered(part, self._count(part), span.checked_at, span.recheck_after)
            for span in merge(self._facts())
            if (part := span.range.intersect(asked)) is not None
        ]
        assert self.runner.run(self.store.coverage(self.series, asked)) == expected

    @rule(window=windows, after=st.none() | st.tuples(st.integers(0, POINTS), st.integers(0, 2)))
    def read(self, window: tuple[int, int], after: tuple[int, int] | None) -> None:
        key = None if after is None else RowKey(after[0] * self.unit, after[1])
        got = self.runner.run(self._collect(self._range(window), key))
        wanted = [row for row in self._rows() if window[0] <= row[0] < window[1]]
        if after is not None:
            shift = after if self.series.kind is Kind.TRADES else (after[0], 0)
            wanted = [row for row in wanted if row[:2] > shift]
        assert got == wanted

    @rule(count=st.integers(1, 40), before=st.integers(0, 2 * POINTS))
    def read_last(self, count: int, before: int) -> None:
        got = self.runner.run(self._collect_last(count, before * self.unit))
        assert got == [row for row in self._rows() if row[0] < before][-count:]

    @rule(window=windows)
    def quarantine(self, window: tuple[int, int]) -> None:
        counted = self.runner.run(self.store.quarantined_count(self.series, self._range(window)))
        assert counted == sum(known.bad for point, known in self.points.items() if point in range(*window))

    @invariant()
    def the_file_keeps_its_rules(self) -> None:
        """Facts and blocks are disjoint, facts count their rows, blocks lie in covered time and say what they hold."""
        with sqlite3.connect(self.path) as con:
            facts = con.execute("SELECT since, until, row_count FROM fact ORDER BY since").fetchall()
            blocks = con.execute("SELECT first_ts, last_ts, row_count FROM block ORDER BY first_ts").fetchall()
        con.close()
        assert [(fact.range.start, fact.range.end, fact.row_count) for fact in self._facts()] == facts
        assert all(left[1] < right[0] for left, right in pairwise(blocks))
        stamps = [point * self.unit for point, _, _ in self._rows()]
        for first, last, row_count in blocks:
            inside = [stamp for stamp in stamps if first <= stamp <= last]
            assert (inside[0], inside[-1], len(inside)) == (first, last, row_count)
            assert all(point in self.points for point in range(first // self.unit, last // self.unit + 1))
        assert sum(block[2] for block in blocks) == len(stamps)

    def teardown(self) -> None:
        self.runner.run(self._close())
        self.runner.close()
        self.directory.cleanup()

    def _rows(self) -> list[tuple[int, int, float]]:
        """(point, ordinal, price) of all rows."""
        return [
            (point, ordinal, price)
            for point, known in sorted(self.points.items())
            for ordinal, price in enumerate(known.rows)
        ]

    def _count(self, part: TimeRange) -> int:
        return sum(point * self.unit in part for point, _, _ in self._rows())

    def _facts(self) -> list[Fact]:
        """Neighbouring points of one commit are one fact."""
        runs: list[tuple[int, int, Known]] = []
        for point, known in sorted(self.points.items()):
            if runs and runs[-1][1] == point and runs[-1][2].commit == known.commit:
                runs[-1] = (runs[-1][0], point + 1, known)
            else:
                runs.append((point, point + 1, known))
        ranges = [(self._range((start, end)), known.asked_at) for start, end, known in runs]
        return [Fact(window, asked_at, self._count(window)) for window, asked_at in ranges]

    async def _collect(self, window: TimeRange, after: RowKey | None) -> list[tuple[int, int, float]]:
        return self._decoded([batch async for batch in self.store.read(self.series, window, after)])

    async def _collect_last(self, count: int, before: int) -> list[tuple[int, int, float]]:
        return self._decoded([batch async for batch in self.store.read_last(self.series, count, before)])

    def _decoded(self, batches: list[pa.RecordBatch]) -> list[tuple[int, int, float]]:
        assert all(batch.num_rows for batch in batches)
        table = pa.Table.from_batches(batches or [EMPTY[self.series.kind]], SCHEMAS[self.series.kind])
        points = [ts // self.unit for ts in table["ts"].cast(pa.int64()).to_pylist()]
        price = "close" if self.series.kind is Kind.OHLCV else "price"
        ordinals = table["seq"].to_pylist() if self.series.kind is Kind.TRADES else [0] * len(points)
        return list(zip(points, ordinals, table[price].to_pylist(), strict=True))


class TradesModel(StoreModel):
    """Trades, a point a millisecond, several at one instant."""

    series = BTC_TRADES
    unit = MICROS_PER_MS

    def rows_at(self, point: int, dice: int) -> int:
        return dice

    def build(self, rows: dict[int, tuple[float, ...]], price: float) -> pa.RecordBatch:
        keys = [(point, seq) for point, values in sorted(rows.items()) for seq in range(len(values))]
        return trades(keys, price)


_SETTINGS = settings(
    max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestBars = StoreModel.TestCase
TestBars.settings = _SETTINGS
TestTrades = TradesModel.TestCase
TestTrades.settings = _SETTINGS
