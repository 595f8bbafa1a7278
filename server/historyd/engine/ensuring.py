"""Makes a range covered, and tells how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from historyd.coverage import Span, State, tile
from historyd.engine.events import EnsurePlan, EnsureProgress, EnsureResult
from historyd.model.rows import BYTES_PER_ROW
from historyd.model.series import Kind
from historyd.model.time_range import MICROS_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from historyd.engine.backfill import Backfill, PageOutcome
    from historyd.engine.backfiller import Backfiller, View
    from historyd.engine.events import EnsureRequest
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.planner import Plan
    from historyd.stores.base import Store

TICK_S: Final = 1.0
"""The longest silence of an ensure stream, in seconds."""
_TRADES_A_CALL: Final = 1000
"""How many trades a page has nobody knows beforehand: it takes one call at least, and that brings about as many."""
_ROUNDS: Final = 3
"""How often a range is walked: a page joined while another caller fetched it may have been planned shorter."""


async def ensure(
    backfiller: Backfiller, store: Store, request: EnsureRequest, clock: Callable[[], int]
) -> AsyncGenerator[EnsurePlan | EnsureProgress | EnsureResult, None]:
    """Yields the plan, progress at least every `TICK_S`, and the result; see HistoryEngine.ensure."""
    series, window, deadline = request.series, request.window, request.deadline
    believed_since = clock() if request.refresh else None
    view = await backfiller.view(series, believed_since)
    view, missing = await backfiller.prepare(view, window, believed_since, deadline)
    described = _describe(backfiller, series, window, missing)
    yield described
    if request.plan_only:
        return
    tally = _Tally(described.page_count, backfiller, series.exchange, clock)
    for _ in range(_ROUNDS):
        if not missing.gaps:
            break
        with backfiller.walk(view, missing, believed_since, deadline) as walk:
            while walk.first is not None:
                yield tally.progress(await walk.next(TICK_S), walk)
            tally.end_walk(walk)
        # A covered span tells its oldest answer: one just given is not known from it if its neighbour is older.
        believed_since = None
        view = await backfiller.look_again(view, believed_since)
        missing = await backfiller.plan(view, window, believed_since)
    spans = await uncovered(store, view, window)
    yield EnsureResult(tally.rows, tally.pages, tally.calls, spans, tally.quarantined)


async def uncovered(store: Store, view: View, window: TimeRange) -> tuple[Span, ...]:
    """The spans of the window that are not covered now, ascending, by the horizon of a view."""
    covered = await store.coverage(view.series, window)
    tiles = tile(window, covered, view.horizon.closed_through, view.unreachable)
    return tuple(span for span in tiles if span.state is not State.COVERED)


def _describe(backfiller: Backfiller, series: SeriesId, window: TimeRange, missing: Plan) -> EnsurePlan:
    pages = missing.page_count
    grid = missing.pages.grid
    rows = sum(grid.count(gap.start, gap.end) for gap in missing.gaps)
    if series.kind is Kind.TRADES:
        rows = pages * _TRADES_A_CALL
    least_s = backfiller.least_duration_s(series.exchange, pages)
    return EnsurePlan(window, missing.gaps, pages, pages, rows * BYTES_PER_ROW[series.kind], least_s)


class _Tally:
    """Adds up what the walks of one ensure did. Counters never decrease."""

    def __init__(self, planned: int, backfiller: Backfiller, exchange: str, clock: Callable[[], int]) -> None:
        self.pages = 0
        self.rows = 0
        self.calls = 0
        self.quarantined = 0
        self._planned = planned
        self._backfiller = backfiller
        self._exchange = exchange
        self._clock = clock
        self._started_at = clock()

    def progress(self, outcome: PageOutcome | None, walk: Backfill) -> EnsureProgress:
        """Adds a window's outcome, if there is one, and says how far it is."""
        if outcome is not None:
            self.pages += 1
            self.rows += outcome.row_count
            self.quarantined += outcome.quarantined_count
        return EnsureProgress(
            self.pages,
            self.rows,
            self.calls + walk.call_count,
            self._remaining_s(),
            outcome.window if outcome is not None else None,
            walk.wait,
        )

    def end_walk(self, walk: Backfill) -> None:
        """Keeps the calls of a walk that is over."""
        self.calls += walk.call_count

    def _remaining_s(self) -> float | None:
        """By the pace so far, but never less than what the quota demands; None before the first page."""
        if self.pages == 0:
            return None
        left = max(0, self._planned - self.pages)
        elapsed_s = (self._clock() - self._started_at) / MICROS_PER_S
        return max(elapsed_s / self.pages * left, self._backfiller.least_duration_s(self._exchange, left))
