"""The engine: says what is known of a series, makes ranges covered, reads rows.

One request's way: `Backfiller.view` (what can be asked for now) -> `plan` (what is missing) -> `walk` (pages, shared
with all other callers, each committed as it arrives) -> the store -> rows. All that the engine knows is in the store
or can be asked again, so it can die at any moment.

Promises: what is covered is served without the source; a caller that goes away stops only what nobody else waits
for; rows come in ascending order. Never does: know a wire format, a driver, or a venue's ways.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from historyd.coverage import Span, tile
from historyd.engine.backfiller import Backfiller
from historyd.engine.ensuring import ensure
from historyd.engine.events import EnsureRequest
from historyd.engine.reading import ReadEvent, read
from historyd.engine.reporting import report_on
from historyd.leases.base import Alone
from historyd.observability.hooks import NOBODY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from types import TracebackType

    from historyd.engine.events import EnsurePlan, EnsureProgress, EnsureResult, QualityReport, ReadRequest
    from historyd.leases.base import Leases
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.observability.hooks import Hooks
    from historyd.sources.base import Markets, Source
    from historyd.stores.base import Packer, Store, StoredSeries


def host_clock() -> int:
    """The host's clock, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class HistoryEngine:
    """Answers for one store and one source (None: only what is stored). An async context manager.

    `leases` tell which of the servers that share the store fetches a page; `hooks` hear what becomes of pages. `clock`
    gives the host's microseconds and `sleep` takes seconds; tests give their own.
    """

    def __init__(
        self,
        store: Store,
        source: Source | None,
        *,
        leases: Leases | None = None,
        clock: Callable[[], int] = host_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        hooks: Hooks = NOBODY,
    ) -> None:
        self._store = store
        self._clock = clock
        self._backfiller = Backfiller(store, source, leases or Alone(), clock, sleep, hooks)

    async def __aenter__(self) -> Self:
        await self._backfiller.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._backfiller.__aexit__(kind, error, trace)

    def now(self) -> int:
        """The host's clock, in microseconds."""
        return self._clock()

    def drain(self) -> None:
        """No page is begun from now on: running ensures end with ShuttingDown at their next page boundary."""
        self._backfiller.drain()

    def abandon(self) -> None:
        """Ends all at once; what is on the wire is not waited for, and its answer is lost."""
        self._backfiller.abandon()

    @property
    def under_way(self) -> int:
        """Pages being fetched and series being opened."""
        return self._backfiller.under_way

    async def coverage(self, series: SeriesId, window: TimeRange) -> list[Span]:
        """Tiles the window with what is known, ascending. Asks the exchange for nothing. Raises UnknownExchange."""
        view = await self._backfiller.view(series)
        covered = await self._store.coverage(series, window)
        return tile(window, covered, view.horizon.closed_through, view.unreachable)

    def ensure(
        self,
        series: SeriesId,
        window: TimeRange,
        *,
        refresh: bool = False,
        plan_only: bool = False,
        deadline: int | None = None,
    ) -> AsyncGenerator[EnsurePlan | EnsureProgress | EnsureResult, None]:
        """Makes a range covered: yields the plan, then progress at least once a second, then the result.

        `refresh` asks again for what is covered; `plan_only` ends after the plan. `deadline` is until when the caller
        waits (microseconds, this clock): WaitTooLong if a page's call would be due later. Raises NoSource if rows are
        missing and there is no source, or what the source or the store raises for the first page that fails; pages
        fetched until then are kept.
        """
        request = EnsureRequest(series, window, refresh, plan_only, deadline)
        return ensure(self._backfiller, self._store, request, self._clock)

    def read(self, request: ReadRequest, packer: Packer | None = None) -> AsyncGenerator[ReadEvent, None]:
        """Yields the resolved range, batches of rows in ascending order, and last the summary.

        Batches have all columns. With a packer, rows may come as it packed them, instead of a batch. Raises Incomplete
        if completeness is required and cannot be had, CorruptPage, or what `ensure` raises.
        """
        return read(self._backfiller, self._store, request, packer)

    async def quality(self, series: SeriesId, window: TimeRange) -> QualityReport:
        """Reports how good the stored rows of a range are, day by day. Asks the exchange for nothing.

        Reads all bars of the range, a batch at a time. Raises UnknownExchange, or what the store raises.
        """
        return await report_on(self._store, await self._backfiller.view(series), window)

    async def list_series(self, pattern: str, after: str, limit: int) -> list[StoredSeries]:
        """Series stored whose id matches `pattern` and is greater than `after`, by id, at most `limit`."""
        return await self._store.list_series(pattern, after, limit)

    async def markets(self, exchange: str) -> Markets:
        """All markets of an exchange, by symbol. Raises NoSource, or what the source raises."""
        return await self._backfiller.markets(exchange)
