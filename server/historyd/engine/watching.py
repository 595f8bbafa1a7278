"""Tells the hooks what becomes of pages and of openings; what it wraps does the work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from historyd.observability.hooks import PageBegun, PageDone, PageFailed, PageLeft, SeriesFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from historyd.engine.backfill import Fetcher, PageJob, PageOutcome
    from historyd.engine.singleflight import Flight
    from historyd.model.series import SeriesId
    from historyd.observability.hooks import Hooks

T = TypeVar("T")


class WatchedFetcher:
    """A fetcher whose pages are told about: each that is begun is done, failed or left."""

    def __init__(self, fetcher: Fetcher, hooks: Hooks) -> None:
        self._fetcher = fetcher
        self._hooks = hooks

    async def fetch(self, job: PageJob, flight: Flight[PageOutcome]) -> PageOutcome:
        """Covers the window of a job; raises what the fetcher raises."""
        self._hooks.happened(PageBegun(job.series, job.window))
        try:
            outcome = await self._fetcher.fetch(job, flight)
        except asyncio.CancelledError:
            self._hooks.happened(PageLeft(job.series, job.window))
            raise
        except Exception as error:
            self._hooks.happened(PageFailed(job.series, job.window, error))
            raise
        if outcome.is_partial:
            self._hooks.happened(PageLeft(job.series, job.window))
            return outcome
        counts = (outcome.row_count, outcome.quarantined_count, outcome.call_count)
        self._hooks.happened(PageDone(job.series, outcome.window, *counts))
        return outcome


async def watched_opening(series: SeriesId, work: Awaitable[T], hooks: Hooks) -> T:
    """The result of opening a series; tells if it fails, and raises that."""
    try:
        return await work
    except Exception as error:
        hooks.happened(SeriesFailed(series, error))
        raise
