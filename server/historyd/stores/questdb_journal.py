"""The journal of a QuestDB store: what was opened, answered and forgotten, in one order that all servers see.

Theory of operation. The journal's table only grows, and its rows stand in the order of their appending. So it is a
log that every server replays to the same end: the first record of a kind decides, and nobody has to agree on clocks.
A record that comes too late is void for everybody: an opening from another origin, an answer for a series dropped
before it. What was replayed is kept in memory: openings of all series, answers of those series that were asked for.
A series is replayed from its newest snapshot, and after many records one is taken.

Promises: after `sync` everything is known that was visible when it was called; callers that come together share one
look. `append` returns when its records are visible to every server and replayed here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from historyd.model.page import Layout, Pages
from historyd.model.series import Kind, SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.venue import Origin
from historyd.stores.questdb_snapshots import Snapshot, Snapshots, due
from historyd.stores.segments import Segment, Segments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from historyd.stores.questdb_link import Link

_STEP: Final = 50_000
"""Records read at once."""


class Record(NamedTuple):
    """One record. `kind` is `store` (its writer names it), `open`, `fact`, `forget` or `drop`; the rest may be None."""

    kind: str
    series: str | None = None
    since: int | None = None
    until: int | None = None
    asked_at: int | None = None
    row_count: int | None = None
    answer: int | None = None
    set_aside: int | None = None
    page_bars: int | None = None
    anchor: int | None = None
    host: str | None = None
    sandbox: bool = False
    writer: str = ""

    @classmethod
    def opening(cls, series: SeriesId, origin: Origin, layout: Layout) -> Record:
        """The series may be written."""
        page_bars, anchor = layout.page_bars, layout.anchor
        host, sandbox = origin.host, origin.sandbox
        return cls("open", str(series), page_bars=page_bars, anchor=anchor, host=host, sandbox=sandbox)

    @classmethod
    def fact(cls, series: SeriesId, segment: Segment) -> Record:
        """The exchange was asked and answered."""
        span, count, aside = segment.range, segment.row_count, segment.set_aside
        return cls("fact", str(series), span.start, span.end, segment.asked_at, count, segment.answer, aside)

    @classmethod
    def forgetting(cls, series: SeriesId, window: TimeRange | None) -> Record:
        """Nothing is known of the window any more, or of the series at all."""
        if window is None:
            return cls("drop", str(series))
        return cls("forget", str(series), window.start, window.end)

    @property
    def range(self) -> TimeRange:
        """Of a fact or a forgetting."""
        assert self.since is not None
        assert self.until is not None
        return TimeRange(self.since, self.until)


class Openings:
    """Which series are open, how they are cut, and where each exchange's history comes from."""

    def __init__(self) -> None:
        self.uuid = ""
        self.layouts: dict[SeriesId, Layout] = {}
        self.origins: dict[str, Origin] = {}

    def apply(self, record: Record) -> None:
        """Takes in a record of the kinds `store`, `open` and `drop`; others change nothing."""
        if record.kind == "store":
            self.uuid = self.uuid or record.writer
        elif record.kind == "open":
            series, origin = SeriesId.parse(record.series or ""), Origin(record.host or "", record.sandbox)
            if self.origins.setdefault(series.exchange, origin) == origin:
                self.layouts.setdefault(series, Layout(record.page_bars or 1, record.anchor))
        elif record.kind == "drop":
            series = SeriesId.parse(record.series or "")
            self.layouts.pop(series, None)
            # An exchange without a series may be asked from another host.
            if all(other.exchange != series.exchange for other in self.layouts):
                self.origins.pop(series.exchange, None)


@dataclass(slots=True)
class _Followed:
    """The answers of a series, and how many records have come after the place `since` of its last snapshot."""

    segments: Segments
    since: int
    records: int = 0


class Journal:
    """The journal as this server knows it. `begin` comes first."""

    def __init__(self, link: Link, sql: Mapping[str, str], writer: str) -> None:
        self.openings = Openings()
        self._link = link
        self._sql = sql
        self._writer = writer
        self._snapshots = Snapshots(link, sql)
        self._followed: dict[SeriesId, _Followed] = {}
        self._length = 0
        self._looking = asyncio.Lock()
        self._looks_begun = 0
        self._last_look = 0
        self._appending = asyncio.Lock()

    async def begin(self) -> None:
        """Replays all but the answers; gives a new store its name. Raises StoreUnavailable."""
        ((length,),) = await self._link.fetch(self._sql["journal_length"])
        for row in await self._link.fetch(self._sql["journal_without_facts"], length):
            self.openings.apply(Record(*row))
        self._length = length
        if not self.openings.uuid:
            await self.append([Record("store")])

    async def sync(self) -> None:
        """Learns all that is visible now. Raises StoreUnavailable."""
        wanted = self._looks_begun + 1
        async with self._looking:
            if self._last_look >= wanted:
                return
            self._looks_begun += 1
            look = self._looks_begun
            await self._follow()
            self._last_look = look

    async def segments(self, series: SeriesId) -> Segments | None:
        """The answers of a series, up to date; None if it is not open. Raises StoreUnavailable."""
        await self.sync()
        if series not in self.openings.layouts:
            return None
        if series not in self._followed:
            async with self._looking:
                await self._replay(series)
        await self._take_snapshot(series)
        return self.known(series)

    async def records(self, series: SeriesId, window: TimeRange) -> list[Record]:
        """The records of a series that say something of the window, in order. Raises StoreUnavailable."""
        await self.sync()
        bounds = (self._length, window.start, window.end)
        return [Record(*row) for row in await self._link.fetch(self._sql["journal_in"], str(series), *bounds)]

    def known(self, series: SeriesId) -> Segments | None:
        """The answers of a series as of the last look, if they were asked for and it is open."""
        followed = self._followed.get(series)
        return None if followed is None else followed.segments

    async def append(self, records: Sequence[Record]) -> None:
        """Adds records; all or none of them if it raises StoreUnavailable."""
        now = datetime.now(UTC).replace(tzinfo=None)
        rows = [(*record[:-1], self._writer, now) for record in records]
        async with self._appending:
            await self._link.insert_in_turn(self._sql["append"], rows)
        await self.sync()

    async def _follow(self) -> None:
        while True:
            rows = await self._link.fetch(self._sql["tail"], self._length, self._length + _STEP)
            for row in rows:
                self._apply(Record(*row))
            self._length += len(rows)
            if len(rows) < _STEP:
                return

    async def _replay(self, series: SeriesId) -> None:
        """Under the same lock as `_follow`, so that nothing is applied twice or left out."""
        if series in self._followed or series not in self.openings.layouts:
            return
        snapshot = await self._snapshots.newest(series, self._length)
        rows = await self._link.fetch(self._sql["journal_of_series"], str(series), snapshot.position, self._length)
        segments = self._fresh(series)
        _replay(segments, snapshot, [Record(*row) for row in rows])
        self._followed[series] = _Followed(segments, snapshot.position, len(rows))

    async def _take_snapshot(self, series: SeriesId) -> None:
        followed = self._followed.get(series)
        if followed is None or not due(followed.records, len(followed.segments.all())):
            return
        # What is known is all of the first `_length` records, and nothing else, wherever this does not wait.
        since, snapshot = followed.since, Snapshot(self._length, tuple(followed.segments.all()))
        followed.since, followed.records = self._length, 0
        await self._snapshots.keep(series, since, snapshot)

    def _fresh(self, series: SeriesId) -> Segments:
        layout = self.openings.layouts[series]
        return Segments(Pages.of(series, layout).grid if series.kind is Kind.OHLCV else None)

    def _apply(self, record: Record) -> None:
        series = None if record.series is None else SeriesId.parse(record.series)
        was_open = series in self.openings.layouts
        self.openings.apply(record)
        if series is None:
            return
        if record.kind == "drop":
            self._followed.pop(series, None)
        elif record.kind == "open":
            if series in self.openings.layouts and not was_open:
                # What was answered before the series was dropped does not come back: nothing to look up.
                self._followed[series] = _Followed(self._fresh(series), self._length)
        elif series in self._followed:
            self._followed[series].records += 1
            take(self._followed[series].segments, record)


def _replay(segments: Segments, snapshot: Snapshot, records: Sequence[Record]) -> None:
    """Brings new segments to the state after a snapshot and all later records of a series that is open at their end."""
    begin = max((place for place, record in enumerate(records) if record.kind == "drop"), default=-1) + 1
    opened = begin == 0 and snapshot.position > 0
    if opened:
        segments.restore(snapshot.segments)
    for record in records[begin:]:
        opened = opened or record.kind == "open"
        if opened:
            take(segments, record)


def take(segments: Segments, record: Record) -> None:
    """Lays an answer, or erases what was forgotten; other records change no segments."""
    if record.kind == "forget":
        segments.erase(record.range)
    elif record.kind == "fact":
        assert record.asked_at is not None
        assert record.row_count is not None
        assert record.answer is not None
        found = Segment(record.range, record.asked_at, record.row_count, record.answer, record.set_aside or 0)
        segments.lay(found)
