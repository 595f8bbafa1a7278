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
    from historyd.planner import Plan
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
    reader = _Reader(backfiller, store, request, await backfiller.view(request.series))
    window, row_count = request.window, 0
    async with aclosing(reader.last_rows() if request.last else reader.range_rows(packer)) as events:
        async for event in events:
            if isinstance(event, ReadStart):
                window = event.range
            elif not isinstance(event, ReadWaiting):
                row_count += event.num_rows
            yield event
    spans = await reader.uncovered(window)
    reader.refuse(spans)
    set_aside = await store.quarantined_count(request.series, window)
    complete = _first_hole(spans) is None
    yield ReadSummary(row_count, reader.view.horizon.closed_through, spans, set_aside, complete=complete)


class _Reader:
    """One read under way. `view` is of the moment it began, with what was learned while rows were fetched for it."""

    def __init__(self, backfiller: Backfiller, store: Store, request: ReadRequest, view: View) -> None:
        self.view = view
        self._backfiller = backfiller
        self._store = store
        self._request = request

    async def uncovered(self, window: TimeRange) -> tuple[Span, ...]:
        """What of the window is not covered now."""
        return await uncovered(self._store, self.view, window)

    def refuse(self, spans: Sequence[Span]) -> None:
        """Raises Incomplete if completeness is required and a span is MISSING or UNREACHABLE."""
        hole = _first_hole(spans)
        if self._request.require_complete and hole is not None:
            series = self._request.series
            why = f": {hole.reason}" if hole.reason else ""
            raise Incomplete(
                f"{series} is {hole.state} in {hole.range}{why}", series=str(series), first_gap=str(hole.range)
            )

    async def range_rows(self, packer: Packer | None) -> AsyncGenerator[_Step, None]:
        """The rows of the range; with `ensure`, as their pages are covered."""
        if self._request.require_complete:
            self.refuse(await self._known_holes())
        yield ReadStart(self._request.window)
        async with aclosing(self._readable()) as steps:
            async for step in steps:
                if isinstance(step, ReadWaiting):
                    yield step
                    continue
                async with aclosing(self._stored(step, packer)) as batches:
                    async for batch in batches:
                        yield batch

    async def last_rows(self) -> AsyncGenerator[_Step, None]:
        """The last rows before the range's end; with `ensure`, the time that they take is made covered first."""
        request, end = self._request, self._request.window.end
        widths = await self._width_of_last()
        if request.require_complete:
            self.refuse(await self.uncovered(widths))
        started = False
        async with aclosing(self._store.read_last(request.series, request.last, end)) as batches:
            async for batch in batches:
                if not started:
                    yield ReadStart(TimeRange(batch.column(0)[0].value, end))
                    started = True
                yield batch
        if not started:
            yield ReadStart(TimeRange(widths.start, end))

    def _stored(self, window: TimeRange, packer: Packer | None) -> AsyncGenerator[Rows, None]:
        series, after = self._request.series, self._request.after
        if packer is None:
            return self._store.read(series, window, after)
        return self._store.read_packed(series, window, after, packer)

    async def _readable(self) -> AsyncGenerator[TimeRange | ReadWaiting, None]:
        """Tiles the range, ascending, with windows whose rows can be read now, fetching what is missing."""
        request = self._request
        cursor = request.window.start if request.after is None else max(request.window.start, request.after.ts)
        end = request.window.end
        wanted = between(cursor, end)
        if wanted is None:
            return
        missing = await self._prepare(wanted) if request.ensure else None
        if missing is not None and missing.gaps:
            async with aclosing(self._fetch(missing)) as starts:
                async for start in starts:
                    ready = between(cursor, min(start, end))
                    if ready is not None:
                        yield ready
                        cursor = ready.end
                    yield ReadWaiting()
        rest = between(cursor, end)
        if rest is not None:
            yield rest

    async def _prepare(self, window: TimeRange) -> Plan:
        """What is missing of a window, ready to be fetched."""
        self.view, missing = await self._backfiller.prepare(self.view, window, deadline=self._request.deadline)
        return missing

    async def _fetch(self, missing: Plan) -> AsyncGenerator[int, None]:
        """Fetches what is missing; before each wait yields where the first page that is still missing begins."""
        with self._backfiller.walk(self.view, missing, deadline=self._request.deadline) as walk:
            while walk.first is not None:
                yield walk.first.start
                await walk.next()
        self.view = await self._backfiller.look_again(self.view)

    async def _cover(self, window: TimeRange) -> None:
        missing = await self._prepare(window)
        if missing.gaps:
            async with aclosing(self._fetch(missing)) as starts:
                async for _ in starts:
                    pass

    async def _width_of_last(self) -> TimeRange:
        """The time before the range's end that holds the last rows; with `ensure`, covered by now."""
        request = self._request
        settled = min(request.window.end, self.view.horizon.closed_through)
        if request.series.kind is Kind.TRADES:
            return await self._width_of_trades(settled)
        width = TimeRange(max(EARLIEST, self.view.pages.grid.back(settled, request.last)), settled)
        if request.ensure:
            await self._cover(width)
        return width

    async def _width_of_trades(self, settled: int) -> TimeRange:
        """The time before `settled` that holds the last trades, doubled until it does; with `ensure`, covered by now.

        Whoever wants them complete or not at all must know it; others take what there is, and nothing is counted.
        """
        request, width = self._request, _FIRST_WIDTH
        if not (request.ensure or request.require_complete):
            return TimeRange(max(EARLIEST, settled - width), settled)
        while True:
            window = TimeRange(max(EARLIEST, settled - width), settled)
            if request.ensure:
                await self._cover(window)
            rows = sum(span.row_count for span in await self._store.coverage(request.series, window))
            if rows >= request.last or width >= _LONGEST_WIDTH:
                return window
            width = min(2 * width, _LONGEST_WIDTH)

    async def _known_holes(self) -> Sequence[Span]:
        """What is known beforehand to stay uncovered: with `ensure`, only what the venue cannot serve."""
        spans = await self.uncovered(self._request.window)
        if not self._request.ensure:
            return spans
        return [span for span in spans if span.state is State.UNREACHABLE]


def _first_hole(spans: Sequence[Span]) -> Span | None:
    return next((span for span in spans if span.state is not State.PENDING), None)
