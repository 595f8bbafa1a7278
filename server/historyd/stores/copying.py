"""Moving house: copies series, rows, facts, rows set aside and origins from one store to another.

What the other store knows already by an answer as new is left out, so a copy that was broken off goes on where it was,
and one made again copies only what is new. Never does: change the store it copies from, or ask an exchange.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from historyd.coverage import Fact, subtract
from historyd.model.rows import EMPTY
from historyd.model.time_range import EARLIEST, LATEST, TimeRange, between
from historyd.stores import blocks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    import pyarrow as pa

    from historyd.coverage import Covered
    from historyd.model.series import SeriesId
    from historyd.stores.base import Store

_PAGE: Final = 500
_ALWAYS: Final = TimeRange(EARLIEST, LATEST)


async def copy(source: Store, target: Store, tell: Callable[[SeriesId, int], None]) -> int:
    """Copies every series; `tell` hears of each, and of how many rows of it were copied. Returns all rows copied.

    Raises OriginMismatch if the target holds an exchange's history from elsewhere; or what the stores raise.
    """
    total, after = 0, ""
    while listed := await source.list_series("*", after, _PAGE):
        for entry in listed:
            rows = await _copy_series(source, target, entry.series)
            tell(entry.series, rows)
            total += rows
        after = str(listed[-1].series)
    return total


async def _copy_series(source: Store, target: Store, series: SeriesId) -> int:
    layout, origin = await source.layout(series), await source.origin(series.exchange)
    if layout is None or origin is None:
        return 0
    await target.open_series(series, origin, layout)
    rows = 0
    for span in await source.coverage(series, _ALWAYS):
        known = await target.coverage(series, span.range)
        fresh = [other.range for other in known if other.checked_at >= span.checked_at]
        for part in subtract(span.range, fresh):
            rows += await _copy_part(source, target, series, span, part)
    return rows


async def _copy_part(source: Store, target: Store, series: SeriesId, span: Covered, part: TimeRange) -> int:
    copied = 0
    async with aclosing(_pieces(source, series, part)) as pieces:
        async for window, rows in pieces:
            aside = await source.quarantined(series, window)
            await target.commit(series, Fact(window, span.checked_at, rows.num_rows), rows, aside)
            copied += rows.num_rows
    return copied


async def _pieces(
    source: Store, series: SeriesId, part: TimeRange
) -> AsyncGenerator[tuple[TimeRange, pa.RecordBatch], None]:
    """Tiles the part with windows and their rows; no instant is cut in two."""
    start = part.start
    carried: Sequence[pa.RecordBatch] = []
    async with aclosing(source.read(series, part)) as batches:
        async for batch in batches:
            rows = blocks.join([*carried, batch], series.kind)
            last = blocks.times(rows)[-1]
            window = between(start, last)
            count = blocks.before(rows, last)
            carried = [rows.slice(count)]
            if window is not None and count:
                yield window, rows.slice(0, count)
                start = last
    yield TimeRange(start, part.end), blocks.join(carried, series.kind) if carried else EMPTY[series.kind]
