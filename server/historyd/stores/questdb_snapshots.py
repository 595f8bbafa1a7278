"""Snapshots of a QuestDB store's journal: what counted in a series at a place of the journal, packed.

Theory of operation. The journal never changes up to a place, so neither does what all its records up to there come
to. A snapshot says that for one series, many segments to a row; who has it replays only the records after it. It is
good only if all its parts are there and if the record before its place still is the one that was there: a power cut
can take the end of the journal and leave a snapshot of it.

Promises: without snapshots everything is as with them, only slower; their table may be emptied at any time. Never
does: decide what counts, which is the journal's.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import zlib
from base64 import b64decode, b64encode
from secrets import randbits
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from historyd.errors import StoreUnavailable
from historyd.model.time_range import TimeRange
from historyd.stores.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from historyd.model.series import SeriesId
    from historyd.stores.questdb_link import Link

_LOG: Final = logging.getLogger(__name__)
_FEWEST_RECORDS: Final = 1_000
_SHARE: Final = 4
"""A snapshot comes after so many records, or after this part of what it will hold, so that all of them together take
a few times the room of the last."""
_PART: Final = 1_000
"""Segments of one row: at most 76 kB of text."""
_SEGMENT: Final = struct.Struct("<7q")
_NUMBER_BITS: Final = 53


class Snapshot(NamedTuple):
    """What counted in a series after the journal's first `position` records."""

    position: int
    segments: Sequence[Segment]


NOTHING: Final = Snapshot(0, ())
"""Of a journal without records."""


def due(records: int, segments: int) -> bool:
    """Whether so many records since the last snapshot are worth one of so many segments."""
    return records > max(_FEWEST_RECORDS, segments // _SHARE)


class Snapshots:
    """Reads and writes snapshots."""

    def __init__(self, link: Link, sql: Mapping[str, str]) -> None:
        self._link = link
        self._sql = sql

    async def newest(self, series: SeriesId, length: int) -> Snapshot:
        """The newest good one among the journal's first `length` records. Raises StoreUnavailable."""
        for number, position, mark in await self._complete(series):
            if position <= length and mark == await self._mark(position):
                rows = await self._link.fetch(self._sql["snapshot"], str(series), number)
                try:
                    return Snapshot(position, await asyncio.to_thread(_unpacked, rows))
                except (ValueError, zlib.error, struct.error):
                    _LOG.warning("a snapshot of %s is damaged and left alone", series)
        return NOTHING

    async def keep(self, series: SeriesId, since: int, snapshot: Snapshot) -> None:
        """Writes one, unless another server has done so after the place `since`, or is about to.

        Does nothing if QuestDB does not take it: the next one will do.
        """
        try:
            if any(position > since for _, position, _ in await self._complete(series)):
                return
            mark = await self._mark(snapshot.position)
            parts = await asyncio.to_thread(_packed, snapshot.segments)
            head = (str(series), randbits(_NUMBER_BITS), snapshot.position, mark, len(parts))
            rows = [(*head, place, content) for place, content in enumerate(parts)]
            await self._link.insert(self._sql["put_snapshot"], rows)
        except StoreUnavailable as error:
            _LOG.info("no snapshot of %s was taken: %s", series, error.metadata.get("cause"))

    async def _complete(self, series: SeriesId) -> list[tuple[int, int, str]]:
        """Number, position and mark of those with all parts, newest first."""
        rows = await self._link.fetch(self._sql["snapshots_of_series"], str(series))
        whole = [(number, position, mark) for number, position, mark, parts, found in rows if parts == found]
        return sorted(whole, key=lambda one: one[1], reverse=True)

    async def _mark(self, position: int) -> str:
        """The record before a place; answers' numbers and writers' names make it unlike any other."""
        rows = await self._link.fetch(self._sql["tail"], position - 1, position)
        return " ".join(str(value) for row in rows for value in row)


def _packed(segments: Sequence[Segment]) -> list[str]:
    """The parts' contents; a single empty one if there are no segments."""
    starts = range(0, max(1, len(segments)), _PART)
    return [_packed_part(segments[start : start + _PART]) for start in starts]


def _packed_part(segments: Sequence[Segment]) -> str:
    numbers = (
        _SEGMENT.pack(s.range.start, s.range.end, s.asked_at, s.row_count, s.answer, s.set_aside, s.whole)
        for s in segments
    )
    return b64encode(zlib.compress(b"".join(numbers))).decode()


def _unpacked(rows: Sequence[Any]) -> list[Segment]:
    """The segments of all parts. Raises ValueError, zlib.error, struct.error if they are not what was packed."""
    if [part for part, _ in rows] != list(range(len(rows))):
        raise ValueError("parts are missing")
    return [
        Segment(TimeRange(start, end), asked_at, row_count, answer, set_aside, bool(whole))
        for _, content in rows
        for start, end, asked_at, row_count, answer, set_aside, whole in _SEGMENT.iter_unpack(
            zlib.decompress(b64decode(content, validate=True))
        )
    ]
