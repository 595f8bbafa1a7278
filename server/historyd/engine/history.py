"""The engine: answers what is known, makes ranges covered, reads rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pyarrow as pa

    from historyd.coverage import Span
    from historyd.engine.events import (
        EnsurePlan,
        EnsureProgress,
        EnsureResult,
        ReadRequest,
        ReadStart,
        ReadSummary,
    )
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.sources.base import Markets, Source
    from historyd.stores.base import Store, StoredSeries


class HistoryEngine:
    def __init__(self, store: Store, source: Source | None) -> None: ...
    async def __aenter__(self) -> HistoryEngine: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def now(self) -> int:
        """Host clock, microseconds."""

    async def coverage(self, series: SeriesId, window: TimeRange) -> list[Span]: ...
    def ensure(
        self, series: SeriesId, window: TimeRange, *, refresh: bool = False, plan_only: bool = False
    ) -> AsyncIterator[EnsurePlan | EnsureProgress | EnsureResult]: ...
    def read(self, request: ReadRequest) -> AsyncIterator[ReadStart | pa.RecordBatch | ReadSummary]: ...
    async def list_series(self, pattern: str, after: str, limit: int) -> list[StoredSeries]: ...
    async def markets(self, exchange: str) -> Markets: ...
    async def drain(self) -> None:
        """No new pages from now on: running ensures end with ShuttingDown at their next page boundary."""
