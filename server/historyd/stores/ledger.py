"""Writes the embedded store's file: rows and facts together, newest answer first. All on the writer's thread.

Theory of operation. Facts of a series are disjoint. An incoming fact is laid over them: where a stored one is newer
it stays; everywhere else stored facts, their rows and their quarantined rows are cut away and the new ones put in.
Rows lie in blocks. Small blocks side by side are joined into full ones, so that each row is written about twice and
a long read finds few blocks; blocks are joined only over covered time, so that filling a gap later never has to
cut one up.

Promises: all that one call does is one transaction. `spans` is what is covered as of the last commit; others may
read it from any thread, it is replaced as a whole and never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from historyd.coverage import Covered, Fact, subtract
from historyd.errors import CorruptPage, OriginMismatch
from historyd.model.page import Layout
from historyd.model.series import SeriesId
from historyd.model.time_range import LATEST, TimeRange
from historyd.model.venue import Origin
from historyd.stores import blocks
from historyd.stores.block_table import BlockTable, KnownSeries
from historyd.stores.revisions import revised_times
from historyd.stores.spans import added, folded
from historyd.stores.sqlite import SQL, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from historyd.model.rows import Quarantined
    from historyd.stores.block_table import Block
    from historyd.stores.blocks import BlockForm

_ALWAYS = TimeRange(-LATEST, 2 * LATEST)
"""Wider than any range that can be asked for."""


class Edition(NamedTuple):
    """A series, by its number in the file, as it was until its next change."""

    series: int
    version: int


class Ledger:
    """What the file holds, and the only one that changes it.

    Attributes:
        known: the series of the file.
        spans: covered spans by series number, of the series asked for so far.
        quarantined: how many rows are set aside, by series number; no entry if none.
        versions: how often a series was changed since the store was opened, by series number; no entry if never.
    """

    def __init__(self, con: sqlite3.Connection, verified: set[tuple[int, int]], form: BlockForm) -> None:
        self._con = con
        self._form = form
        self._blocks = BlockTable(con, verified)
        self.known = all_series(con)
        self.spans: dict[int, Sequence[Covered]] = {}
        self.versions: dict[int, int] = {}
        self.quarantined: dict[int, int] = dict(con.execute(SQL["quarantined_per_series"]).fetchall())

    def open_series(self, series: SeriesId, origin: Origin, layout: Layout) -> KnownSeries:
        """Makes a series ready to write; the first layout holds. Raises OriginMismatch."""
        with transaction(self._con, "IMMEDIATE"):
            self._match_origin(series.exchange, origin)
            if series not in self.known:
                named = {"name": str(series), "exchange": series.exchange}
                cut = {"page_bars": layout.page_bars, "anchor": layout.anchor}
                self._con.execute(SQL["put_series"], named | cut)
            known = all_series(self._con)
        self.known = known
        return known[series]

    def commit(self, series: SeriesId, fact: Fact, rows: pa.RecordBatch, quarantined: Sequence[Quarantined]) -> None:
        """Stores the rows of a range, its quarantined rows and its fact. Raises ValueError for an unopened series."""
        known = self.known.get(series)
        if known is None:
            raise ValueError(f"open_series comes before the first commit of {series}")
        with transaction(self._con, "IMMEDIATE"):
            stored = self._facts(known, fact.range)
            newer = [old.range for old in stored if old.asked_at > fact.asked_at]
            parts = subtract(fact.range, newer)
            for part in parts:
                if stored:
                    self._note_revisions(known, part, stored, rows)
                    self._clear(known, part)
                self._put(known, part, fact, rows)
                self._set_aside(known, part, fact, quarantined)
            for part in parts:
                self._join_around(known, part)
            set_aside = self._count_set_aside(known) if stored or quarantined else 0
        if stored or quarantined:
            self.quarantined[known.number] = set_aside
        self._publish(known, None if stored else fact)

    def forget(self, series: SeriesId, window: TimeRange | None) -> int:
        """Removes what is known of the window, or the whole series; returns the rows removed."""
        known = self.known.get(series)
        if known is None:
            return 0
        with transaction(self._con, "IMMEDIATE"):
            removed = self._drop(known) if window is None else self._clear(known, window)
            self._forget_revisions(known, window or _ALWAYS)
            remaining, set_aside = all_series(self._con), self._count_set_aside(known)
        self.known = remaining
        self.quarantined[known.number] = set_aside
        self._publish(known, None)
        return removed

    def edition(self, series: SeriesId) -> Edition | None:
        """Names what is stored of a series now; None if nothing is."""
        known = self.known.get(series)
        return None if known is None else Edition(known.number, self.versions.get(known.number, 0))

    def covered(self, series: KnownSeries) -> Sequence[Covered]:
        """The covered spans of a series, kept in `spans` from now on."""
        spans = self.spans.get(series.number)
        if spans is None:
            spans = self.spans[series.number] = covered_spans(self._con, series)
        return spans

    def _publish(self, series: KnownSeries, appended: Fact | None) -> None:
        """Brings the spans up to date with the transaction just committed; None: they have to be read again."""
        self.versions[series.number] = self.versions.get(series.number, 0) + 1
        if appended is None:
            self.spans.pop(series.number, None)
        elif series.number in self.spans:
            self.spans[series.number] = added(self.spans[series.number], appended)

    def _count_set_aside(self, series: KnownSeries) -> int:
        everywhere = {"series": series.number, "since": _ALWAYS.start, "until": _ALWAYS.end}
        (count,) = self._con.execute(SQL["count_quarantined"], everywhere).fetchone()
        return int(count)

    def _match_origin(self, exchange: str, origin: Origin) -> None:
        row = self._con.execute(SQL["get_origin"], {"exchange": exchange}).fetchone()
        if row is None:
            asked = {"exchange": exchange, "host": origin.host, "sandbox": origin.sandbox}
            self._con.execute(SQL["put_origin"], asked)
            return
        stored = Origin(row[0], bool(row[1]))
        if stored != origin:
            raise OriginMismatch(exchange, str(stored), str(origin))

    def _facts(self, series: KnownSeries, window: TimeRange) -> list[Fact]:
        bounds = {"series": series.number, "since": window.start, "until": window.end}
        rows = self._con.execute(SQL["facts_touching"], bounds)
        return [Fact(TimeRange(since, until), asked_at, row_count) for since, until, asked_at, row_count in rows]

    def _put_fact(self, series: KnownSeries, fact: Fact) -> None:
        span = {"series": series.number, "since": fact.range.start, "until": fact.range.end}
        self._con.execute(SQL["put_fact"], span | {"asked_at": fact.asked_at, "row_count": fact.row_count})

    def _clear(self, series: KnownSeries, window: TimeRange) -> int:
        """Removes rows, facts and quarantine of the window; facts beside it get their exact counts."""
        removed = self._blocks.clear(series, window, self._form)
        for old in self._facts(series, window):
            self._con.execute(SQL["delete_fact"], {"series": series.number, "since": old.range.start})
            for rest in subtract(old.range, [window]):
                row_count = self._blocks.count(series, rest) if old.row_count else 0
                self._put_fact(series, Fact(rest, old.asked_at, row_count))
        bounds = {"series": series.number, "since": window.start, "until": window.end}
        self._con.execute(SQL["delete_quarantined"], bounds)
        return removed

    def _note_revisions(
        self, series: KnownSeries, part: TimeRange, stored: Sequence[Fact], rows: pa.RecordBatch
    ) -> None:
        """Notes at which times the rows that are about to take the place of stored ones differ from them."""
        for old in stored:
            again = old.range.intersect(part)
            if again is None:
                continue
            try:
                before = self._blocks.rows(series, again)
            except CorruptPage:
                # It is what a new answer mends: there is nothing to compare that with.
                continue
            for at in revised_times(before, blocks.cut(rows, again.start, again.end)):
                self._con.execute(SQL["put_revision"], {"series": series.number, "at": at})

    def _forget_revisions(self, series: KnownSeries, window: TimeRange) -> None:
        bounds = {"series": series.number, "since": window.start, "until": window.end}
        self._con.execute(SQL["delete_revisions"], bounds)

    def _drop(self, series: KnownSeries) -> int:
        one = {"series": series.number}
        (removed,) = self._con.execute(SQL["rows_of_series"], one).fetchone()
        for statement in ("delete_blocks", "delete_facts", "delete_series"):
            self._con.execute(SQL[statement], one)
        everywhere = one | {"since": _ALWAYS.start, "until": _ALWAYS.end}
        self._con.execute(SQL["delete_quarantined"], everywhere)
        self._con.execute(SQL["delete_unused_origin"], {"exchange": series.id.exchange})
        return int(removed)

    def _put(self, series: KnownSeries, part: TimeRange, fact: Fact, rows: pa.RecordBatch) -> None:
        inside = blocks.cut(rows, part.start, part.end)
        self._put_fact(series, Fact(part, fact.asked_at, inside.num_rows))
        self._blocks.put(series, inside, self._form)

    def _set_aside(self, series: KnownSeries, part: TimeRange, fact: Fact, quarantined: Sequence[Quarantined]) -> None:
        for bad in quarantined:
            at = bad.ts if bad.ts is not None and bad.ts in fact.range else fact.range.start
            if at in part:
                row = {"series": series.number, "at": at, "ts": bad.ts, "reason": bad.reason, "content": bad.row}
                self._con.execute(SQL["put_quarantined"], row)

    def _join_around(self, series: KnownSeries, part: TimeRange) -> None:
        """Joins single bars and the like at once, and larger blocks once they make a full one."""
        full = self._form.full_rows[series.id.kind]
        for limit, enough in ((self._form.small_rows, 0), (full, full)):
            run = self._run(series, part, limit)
            if _row_count(run) >= enough:
                run = self._chained(series, part, run)
            if len(run) > 1 and _row_count(run) >= enough:
                self._join(series, run)

    def _run(self, series: KnownSeries, part: TimeRange, limit: int) -> list[Block]:
        """Blocks of fewer than `limit` rows side by side, in the part and some to both sides of it."""
        left = _small(self._blocks.before(series, part.end), limit)
        return [*reversed(left), *_small(self._blocks.since(series, part.end), limit)]

    def _chained(self, series: KnownSeries, part: TimeRange, run: Sequence[Block]) -> list[Block]:
        """Those of the run that can be reached from the part without leaving covered time."""
        if not run:
            return []
        extent = TimeRange(min(run[0].first_ts, part.start), max(run[-1].last_ts + 1, part.end))
        start, end = part.start, part.end
        facts = self._facts(series, extent)
        for fact in facts:
            if fact.range.start <= end < fact.range.end:
                end = fact.range.end
        for fact in reversed(facts):
            if fact.range.start < start <= fact.range.end:
                start = fact.range.start
        return [block for block in run if start <= block.first_ts and block.last_ts < end]

    def _join(self, series: KnownSeries, run: Sequence[Block]) -> None:
        try:
            batches = [self._blocks.load(series, block) for block in run]
        except CorruptPage:
            # Blocks side by side read as well as joined ones; whoever reads the damaged one is told.
            return
        for block in run:
            self._blocks.delete(block)
        self._blocks.put(series, blocks.join(batches, series.id.kind), self._form)


def all_series(con: sqlite3.Connection) -> dict[SeriesId, KnownSeries]:
    """The series of the file."""
    known: dict[SeriesId, KnownSeries] = {}
    for number, name, page_bars, anchor in con.execute(SQL["all_series"]):
        series = SeriesId.parse(name)
        known[series] = KnownSeries(number, series, Layout(page_bars, anchor))
    return known


def covered_spans(con: sqlite3.Connection, series: KnownSeries) -> list[Covered]:
    """The maximal covered spans of a series; costs as much as it has facts."""
    return folded(con.execute(SQL["all_facts"], {"series": series.number}))


def _small(found: Iterator[Block], limit: int) -> list[Block]:
    """The first blocks that have fewer than `limit` rows each, until they have twice as many together.

    Side by side in covered time there are never so many: they are joined before. Only gaps keep more apart.
    """
    run: list[Block] = []
    for block in found:
        if block.row_count >= limit or _row_count(run) >= 2 * limit:
            break
        run.append(block)
    return run


def _row_count(run: Sequence[Block]) -> int:
    return sum(block.row_count for block in run)
