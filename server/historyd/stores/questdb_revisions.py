"""Which rows of a QuestDB store were revised: found when somebody asks, as no answer's rows are ever removed there.

Theory of operation. The journal says which answers took each other's place, and where. Only there are rows looked at.
Of bars QuestDB first tells for each time how many rows there are and whether their values differ: a series that was
polled bar by bar has hundreds of equal rows for each, which need not be fetched. What then may have been revised is
fetched with the answers' numbers and compared.

Promises: exact; answers that never counted (their writing was broken off, or a newer one was there) change nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

from historyd.coverage import subtract, union
from historyd.model.page import Pages
from historyd.model.series import Kind
from historyd.model.time_range import MICROS_PER_S, TimeRange, to_datetime
from historyd.stores.questdb_journal import take
from historyd.stores.revisions import Replacement, revised_by
from historyd.stores.segments import Segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from historyd.model.page import Layout
    from historyd.model.series import SeriesId
    from historyd.stores.questdb_journal import Record
    from historyd.stores.questdb_link import Link
    from historyd.stores.revisions import Rows

_RUN: Final = 1_000
"""Most times of bars whose rows are fetched at once."""
_BRIDGE: Final = 20
"""So many times between two that are wanted are fetched too, rather than asking twice."""
_TRADES_PIECE: Final = 600 * MICROS_PER_S


def replacements(records: Iterable[Record], series: SeriesId, layout: Layout) -> list[Replacement]:
    """Where answers took each other's place by the records of a series, in the journal's order."""
    grid = Pages.of(series, layout).grid if series.kind is Kind.OHLCV else None
    found: list[Replacement] = []
    segments, is_open = Segments(grid), False
    for record in records:
        if record.kind in {"open", "drop"}:
            is_open = record.kind == "open"
        if not is_open:
            found, segments = [], Segments(grid)
            continue
        if record.kind == "forget":
            found = [
                Replacement(rest, one.old, one.new) for one in found for rest in subtract(one.range, [record.range])
            ]
        elif record.kind == "fact":
            found += _replaced(segments, record)
        take(segments, record)
    return found


def _replaced(segments: Segments, record: Record) -> Iterator[Replacement]:
    assert record.asked_at is not None
    assert record.answer is not None
    for old in segments.touching(record.range):
        part = old.range.intersect(record.range)
        if part is not None and old.asked_at <= record.asked_at and old.answer != record.answer:
            yield Replacement(part, old.answer, record.answer)


async def find_revised(
    link: Link, sql: Mapping[str, str], series: SeriesId, replaced: Sequence[Replacement], window: TimeRange
) -> list[int]:
    """The times of the window that were revised, ascending. Raises StoreUnavailable."""
    inside = [
        Replacement(part, one.old, one.new) for one in replaced if (part := one.range.intersect(window)) is not None
    ]
    found: set[int] = set()
    for span in union(one.range for one in inside):
        here = [one for one in inside if one.range.overlaps(span)]
        pieces = _pieces(span)
        if series.kind is Kind.OHLCV:
            counted = await link.fetch(sql["told_bars"], str(series), _naive(span.start), _naive(span.end))
            pieces = _runs(counted, here)
        for piece in pieces:
            found |= revised_by(here, await _rows(link, sql, series, piece))
    return sorted(found)


def _pieces(span: TimeRange) -> Iterator[TimeRange]:
    for start in range(span.start, span.end, _TRADES_PIECE):
        yield TimeRange(start, min(start + _TRADES_PIECE, span.end))


def _runs(counted: Sequence[Any], replaced: Sequence[Replacement]) -> Iterator[TimeRange]:
    """The ranges whose rows have to be looked at; `counted` has (time, rows, per column: values, least, greatest)."""
    starts, ends = sorted(one.range.start for one in replaced), sorted(one.range.end for one in replaced)
    first = last = None
    for place, (at, rows, *columns) in enumerate(counted):
        # So many answers that counted say something of this time; if all have a row, and the same one, it is as it was.
        answers = 1 + bisect_right(starts, at) - bisect_right(ends, at)
        if rows == answers and _alike(rows, columns):
            continue
        if first is not None and last is not None and (place - last > _BRIDGE or place - first >= _RUN):
            yield TimeRange(counted[first][0], counted[last][0] + 1)
            first = None
        first, last = place if first is None else first, place
    if first is not None and last is not None:
        yield TimeRange(counted[first][0], counted[last][0] + 1)


def _alike(rows: int, columns: Sequence[Any]) -> bool:
    """Whether in each column all values are the same or all are null."""
    triples = zip(columns[::3], columns[1::3], columns[2::3], strict=True)
    return all(values == 0 or (values == rows and least == greatest) for values, least, greatest in triples)


async def _rows(link: Link, sql: Mapping[str, str], series: SeriesId, span: TimeRange) -> dict[tuple[int, int], Rows]:
    """All rows of a span, by time and answer."""
    statement = sql["few_bars" if series.kind is Kind.OHLCV else "few_trades"]
    found: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
    for at, *values, answer in await link.fetch(statement, str(series), _naive(span.start), _naive(span.end)):
        # A null comes as NaN, which is not equal to itself.
        told = tuple(None if value != value else value for value in values)  # noqa: PLR0124
        found.setdefault((at, answer), []).append(told)
    # Within one instant the table keeps no order of its own; a trade's first value is its ordinal.
    return {key: tuple(rows if len(rows) == 1 else sorted(rows)) for key, rows in found.items()}


def _naive(instant: int) -> Any:
    return to_datetime(instant).replace(tzinfo=None)
