"""Reads rows, fetching first what is missing if it was asked to: rows flow as soon as their page is covered.

Order is always ascending. While the first missing page is fetched, the rows before it are sent and the pages after it
are fetched ahead; a `ReadWaiting` says that the next rows are not there yet.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeAlias

from historyd.coverage import State
from historyd.engine.ensuring import uncovered
from historyd.engine.events import ReadStart, ReadSummary, ReadWaiting
from historyd.errors import Incomplete
from historyd.model.series import Kind
from historyd.model.time_range import EARLIEST, MICROS_PER_DAY, MICROS_PER_S, TimeRange, between

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from historyd.coverage import Span
    from historyd.engine.backfiller import Backfiller, View
    from historyd.engine.events import ReadRequest
    from historyd.stores.base import Packer, Rows, Store

_FIRST_WIDTH: Final = 60 * MICROS_PER_S
_LONGEST_WIDTH: Final = MICROS_PER_DAY
"""The last trades are looked for no further back than this."""

ReadEvent: TypeAlias = "ReadStart | ReadWaiting | Rows | ReadSummary"
_Step: TypeAlias = "ReadStart | ReadWaiting | Rows"


async def read(
    backfiller: Backfiller, store: Store, request: ReadRequest, packer: Packer | None = None
) -> AsyncGenerator[ReadEvent, None]:
    """Yields the resolved range, batches of rows in ascending order, and the summary; see HistoryEngine.read."""
    view = await backfiller.view(request.series)
    window, row_count = request.window, 0
    if request.last:
        rows = _last_rows(backfiller, store, request, view)
    else:
        rows = _range_rows(backfiller, store, request, view, packer)
    async with aclosing(rows) as events:
        async for event in events:
            if isinstance(event, ReadStart):
                window = event.range
            elif not isinstance(event, ReadWaiting):
                row_count += event.num_rows
            yield event
    if request.ensure:
        view = await backfiller.look_again(view)
    spans = await uncovered(store, view, window)
    _refuse_holes(request, spans)
    set_aside = await store.quarantined_count(request.series, window)
    yield ReadSummary(row_count, view.horizon.closed_through, spans, set_aside, complete=_first_hole(spans) is None)


async def _range_rows(
    backfiller: Backfiller, store: Store, request: ReadRequest, view: View, packer: Packer | None
) -> AsyncGenerator[_Step, None]:
    """The rows of the range; with `ensure`, as their pages are covered."""
    if request.require_complete:
        _refuse_holes(request, await _known_holes(store, request, view))
    yield ReadStart(request.window)
    async with aclosing(_readable(backfiller, request)) as steps:
        async for step in steps:
            if isinstance(step, ReadWaiting):
                yield step
                continue
            async with aclosing(_rows(store, request, step, packer)) as batches:
                async for batch in batches:
                    yield batch


def _rows(store: Store, request: ReadRequest, window: TimeRange, packer: Packer | None) -> AsyncGenerator[Rows, None]:
    if packer is None:
        return store.read(request.series, window, request.after)
    return store.read_packed(request.series, window, request.after, packer)


async def _readable(backfiller: Backfiller, request: ReadRequest) -> AsyncGenerator[TimeRange | ReadWaiting, None]:
    """Tiles the range, ascending, with windows whose rows can be read now, fetching what is missing."""
    cursor = request.window.start if request.after is None else max(request.window.start, request.after.ts)
    end = request.window.end
    wanted = between(cursor, end)
    if wanted is None:
        return
    if request.ensure:
        view, missing = await backfiller.prepare(request.series, wanted, deadline=request.deadline)
        if missing.gaps:
            with backfiller.walk(view, missing, deadline=request.deadline) as walk:
                while walk.first is not None:
                    ready = between(cursor, min(walk.first.start, end))
                    if ready is not None:
                        yield ready
                        cursor = ready.end
                    yield ReadWaiting()
                    await walk.next()
    rest = between(cursor, end)
    if rest is not None:
        yield rest


async def _last_rows(
    backfiller: Backfiller, store: Store, request: ReadRequest, view: View
) -> AsyncGenerator[_Step, None]:
    """The last rows before the range's end; with `ensure`, the time that they take is made covered first."""
    end = request.window.end
    settled = min(end, view.horizon.closed_through)
    if request.series.kind is Kind.TRADES:
        widths = await _width_of_trades(backfiller, store, request, settled)
    else:
        widths = TimeRange(max(EARLIEST, view.pages.grid.back(settled, request.last)), settled)
        if request.ensure:
            await _cover(backfiller, request, widths)
    if request.require_complete:
        if request.ensure:
            view = await backfiller.look_again(view)
        _refuse_holes(request, await uncovered(store, view, widths))
    started = False
    async with aclosing(store.read_last(request.series, request.last, end)) as batches:
        async for batch in batches:
            if not started:
                yield ReadStart(TimeRange(batch.column(0)[0].value, end))
                started = True
            yield batch
    if not started:
        yield ReadStart(TimeRange(widths.start, end))


async def _width_of_trades(backfiller: Backfiller, store: Store, request: ReadRequest, settled: int) -> TimeRange:
    """The time before `settled` that holds the last trades, doubled until it does; with `ensure`, covered meanwhile.

    Whoever wants them complete or not at all must know it; others take what there is, and nothing is counted.
    """
    width = _FIRST_WIDTH
    if not (request.ensure or request.require_complete):
        return TimeRange(max(EARLIEST, settled - width), settled)
    while True:
        window = TimeRange(max(EARLIEST, settled - width), settled)
        if request.ensure:
            await _cover(backfiller, request, window)
        rows = sum(span.row_count for span in await store.coverage(request.series, window))
        if rows >= request.last or width >= _LONGEST_WIDTH:
            return window
        width = min(2 * width, _LONGEST_WIDTH)


async def _cover(backfiller: Backfiller, request: ReadRequest, window: TimeRange) -> None:
    view, missing = await backfiller.prepare(request.series, window, deadline=request.deadline)
    if missing.gaps:
        with backfiller.walk(view, missing, deadline=request.deadline) as walk:
            while walk.first is not None:
                await walk.next()


async def _known_holes(store: Store, request: ReadRequest, view: View) -> Sequence[Span]:
    """What is known beforehand to stay uncovered: with `ensure`, only what the venue cannot serve."""
    spans = await uncovered(store, view, request.window)
    if not request.ensure:
        return spans
    return [span for span in spans if span.state is State.UNREACHABLE]


def _first_hole(spans: Sequence[Span]) -> Span | None:
    return next((span for span in spans if span.state is not State.PENDING), None)


def _refuse_holes(request: ReadRequest, spans: Sequence[Span]) -> None:
    """Raises Incomplete if completeness is required and a span is MISSING or UNREACHABLE."""
    hole = _first_hole(spans)
    if request.require_complete and hole is not None:
        why = f": {hole.reason}" if hole.reason else ""
        raise Incomplete(
            f"{request.series} is {hole.state} in {hole.range}{why}",
            series=str(request.series),
            first_gap=str(hole.range),
        )
