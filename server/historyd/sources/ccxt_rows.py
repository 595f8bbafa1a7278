"""Checks the shape of a venue's answer for bars, and turns its rows into Arrow.

What becomes of a value:
- a number, or text that is one: that number as float64; null: null (the venue did not give it)
- anything else (text that is no number, a list ...): NaN, which the engine sets aside as `not_finite`
- an open time that is no whole count of milliseconds within the years 1970 to 9999: null, set aside as `no_timestamp`

Promises: no row is dropped, added or moved; an answer that is no list of rows raises BadAnswer.
Never does: judge a row (quality/bars.py does), or any call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from historyd.errors import BadAnswer
from historyd.model.rows import BARS
from historyd.model.time_range import LATEST, MICROS_PER_MS
from historyd.sources.venues import ANY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RAW_BARS: Final = pa.schema([BARS.field("ts").with_nullable(True), *list(BARS)[1:]])
"""`BARS`, but `ts` may be null: the row's open time could not be read."""

_CELLS: Final = len(BARS)
_ROW_TYPES: Final = {list, dict}
_LATEST_MS: Final = LATEST // MICROS_PER_MS


def count_rows(answer: Any, path: tuple[str, ...] | None, exchange: str) -> int:
    """How many rows stand where the venue puts its bars (`VenueTraits.bars_path`); names, numbers are no rows.

    Raises BadAnswer if no list stands there.
    """
    lists = list(_lists_in(answer)) if path is None else _lists_at(answer, path)
    if not lists:
        raise BadAnswer(f"{exchange} answered in a shape that is not its own", exchange=exchange)
    return max(len(rows) if set(map(type, rows)) <= _ROW_TYPES else 0 for rows in lists)


def to_bars(rows: Sequence[Any], exchange: str) -> pa.RecordBatch:
    """Rows `[open time in ms, open, high, low, close, volume, ...]` in the schema `RAW_BARS`, as they come.

    Raises BadAnswer if a row is no list of at least six cells.
    """
    if rows and not (set(map(type, rows)) == {list} and min(map(len, rows)) >= _CELLS):
        raise BadAnswer(f"{exchange} answered with rows that are no bars", exchange=exchange)
    columns = [[row[cell] for row in rows] for cell in range(_CELLS)]
    arrays = [_stamps(columns[0]), *(numbers(column) for column in columns[1:])]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_BARS)


def _lists_at(answer: Any, path: tuple[str, ...]) -> list[list[Any]]:
    places = [answer]
    for key in path:
        inside = [place for place in places if isinstance(place, dict)]
        places = [value for place in inside for name, value in place.items() if key in {name, ANY_KEY}]
    return [place for place in places if isinstance(place, list)]


def _lists_in(answer: Any) -> Iterator[list[Any]]:
    """Of a venue that we do not know we ask that "no bars" be said with an empty list somewhere."""
    if isinstance(answer, list):
        yield answer
    elif isinstance(answer, dict):
        for value in answer.values():
            yield from _lists_in(value)


def _stamps(cells: Sequence[Any]) -> pa.Array:
    whole = set(map(type, cells)) == {int} and min(cells) >= 0 and max(cells) < _LATEST_MS
    stamps = pa.array(cells if whole else [_stamp(cell) for cell in cells], pa.int64())
    return pc.multiply(stamps, MICROS_PER_MS).cast(RAW_BARS.field("ts").type)


def _stamp(cell: Any) -> int | None:
    number = _number(cell)
    if number is None or not number.is_integer() or not 0 <= number < _LATEST_MS:
        return None
    return int(number)


def numbers(cells: Sequence[Any]) -> pa.Array:
    """The cells as float64: null stays null, what is no number is NaN."""
    try:
        return pa.array(list(map(float, cells)), pa.float64())
    except (TypeError, ValueError, OverflowError):
        return pa.array([_number(cell) for cell in cells], pa.float64(), from_pandas=False)


def _number(cell: Any) -> float | None:
    if cell is None:
        return None
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
