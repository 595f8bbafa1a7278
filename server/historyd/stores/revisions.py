"""Revisions: at which times a later answer of the exchange differs from the one whose place it takes.

A time is revised if its rows were changed, added or taken away. Which answers took each other's place is either known
when they are committed (the embedded store) or replayed from the journal (QuestDB). Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from historyd.stores import blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from historyd.model.time_range import TimeRange

Rows = tuple[tuple[Any, ...], ...]
"""All rows of one time, in order, without the time."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """In this range the answer numbered `new` took the place of `old`."""

    range: TimeRange
    old: int
    new: int


def revised_times(old: pa.RecordBatch, new: pa.RecordBatch) -> list[int]:
    """The times, ascending, at which the rows of two batches of one schema differ; both in the order of their keys."""
    if old.equals(new):
        return []
    before, after = rows_by_time(old), rows_by_time(new)
    return sorted(at for at in before.keys() | after.keys() if before.get(at) != after.get(at))


def rows_by_time(batch: pa.RecordBatch) -> Mapping[int, Rows]:
    """The rows of each time."""
    found: dict[int, Rows] = {}
    columns = [column.to_pylist() for column in batch.columns[1:]]
    for at, row in zip(blocks.times(batch), zip(*columns, strict=True), strict=True):
        found[at] = (*found.get(at, ()), row)
    return found


def revised_by(replacements: Iterable[Replacement], rows: Mapping[tuple[int, int], Rows]) -> set[int]:
    """The times at which a replacement changed something; `rows` by time and answer, nothing for those without."""
    by_time: dict[int, dict[int, Rows]] = {}
    for (at, answer), told in rows.items():
        by_time.setdefault(at, {})[answer] = told
    times = sorted(by_time)
    return {
        at
        for one in replacements
        for at in times[bisect_left(times, one.range.start) : bisect_left(times, one.range.end)]
        if by_time[at].get(one.old, ()) != by_time[at].get(one.new, ())
    }
