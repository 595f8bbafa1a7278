"""Fetches pages: asks the source, judges the answer, commits it, in ascending order and a few at a time.

`PageFetcher` does one page of bars (trade_pages.py one of trades); all of its state is in the store, so it can die at
any moment: what was committed is covered, what was not is asked for again. `Backfill` is one caller's walk over the
pages of a plan; callers whose plans share pages share the fetches. A page whose answer says nothing about the window
is remembered as unreachable for a while (probes.py), so that nobody asks in a loop.

Never does: decide what is missing (planner.py does), or send rows to anybody (they are read from the store).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from historyd.coverage import Fact
from historyd.engine.opening import of_stored_series
from historyd.errors import BadAnswer
from historyd.leases.base import LeaseLost
from historyd.model.time_range import EARLIEST, TimeRange, between
from historyd.planner import Horizon, missing
from historyd.quality.bars import judge_bars

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType
    from typing import Self

    from historyd.engine.probes import Probes
    from historyd.engine.retrying import Retrying
    from historyd.engine.singleflight import Caller, Flight, SingleFlight
    from historyd.leases.base import Leases
    from historyd.model.series import SeriesId
    from historyd.model.timeframe import Grid
    from historyd.model.wait import Wait
    from historyd.quality.verdict import Verdict
    from historyd.sources.base import Answer, Source
    from historyd.stores.base import Store

LOOKAHEAD: Final = 4
"""Pages of one caller under way at once: enough to commit one while the next is asked for."""
URGENT_PAGES: Final = 8
"""A walk of at most so many pages goes before longer ones where callers wait for quota: somebody waits for it now."""


@dataclass(frozen=True, slots=True)
class PageJob:
    """A window to ask for, within the page that begins at `page`, its start for bars.

    `believed_since`: answers older than this do not count (a refresh).
    """

    series: SeriesId
    window: TimeRange
    grid: Grid
    page: int
    believed_since: int | None = None

    @property
    def name(self) -> str:
        """Names the page among all servers that share the store."""
        return f"{self.series}@{self.page}"


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """What came of a window: rows stored and set aside, calls made. 0 calls: somebody else had covered it.

    `is_partial`: it ended between two calls, as nobody wanted the page any more.
    """

    window: TimeRange
    row_count: int = 0
    call_count: int = 0
    quarantined_count: int = 0
    is_partial: bool = False


class Fetcher(Protocol):
    """Fetches the window of a job."""

    async def fetch(self, job: PageJob, flight: Flight[PageOutcome]) -> PageOutcome:
        """Covers it unless somebody has done so since it was planned."""


async def under_lease(
    leases: Leases,
    job: PageJob,
    flight: Flight[PageOutcome],
    is_done: Callable[[], Awaitable[bool]],
    fetch: Callable[[PageJob, Flight[PageOutcome]], Awaitable[PageOutcome]],
) -> PageOutcome:
    """What came of a page: fetched here if it is ours to fetch among the servers that share the store."""
    while True:
        try:
            async with leases.page(job.name, flight, is_done) as is_ours:
                return await fetch(job, flight) if is_ours else PageOutcome(job.window)
        except LeaseLost:
            continue


class PageFetcher:
    """Asks for one page of bars, judges the answer and commits it."""

    def __init__(
        self,
        store: Store,
        source: Source,
        leases: Leases,
        probes: Probes,
        retrying: Retrying,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._leases = leases
        self._source = source
        self._probes = probes
        self._retrying = retrying
        self._clock = clock

    async def fetch(self, job: PageJob, flight: Flight[PageOutcome]) -> PageOutcome:
        """Covers the window of a job unless somebody has done so since it was planned.

        Raises what the source raises once the retries are spent, or what the store raises.
        """
        return await under_lease(self._leases, job, flight, lambda: self._is_covered(job), self._fetch)

    async def _fetch(self, job: PageJob, flight: Flight[PageOutcome]) -> PageOutcome:
        policy = self._source.retry_policy(job.series.exchange)
        with of_stored_series(job.series):
            reply = await self._retrying.call(policy, flight, lambda: self._ask(job, flight))
        if reply is None:
            return PageOutcome(job.window, call_count=flight.call_count)
        fact, verdict = reply
        if verdict.ignored_window:
            self._probes.add(job.series, fact.range, _ignored(job.series))
            return PageOutcome(fact.range, call_count=flight.call_count)
        await self._store.commit(job.series, fact, verdict.rows, verdict.quarantined)
        return PageOutcome(fact.range, fact.row_count, flight.call_count, len(verdict.quarantined))

    async def _is_covered(self, job: PageJob) -> bool:
        covered = await self._store.coverage(job.series, job.window)
        venue_now = self._source.now(job.series.exchange)
        return not missing(covered, job.window, venue_now=venue_now, believed_since=job.believed_since)

    async def _ask(self, job: PageJob, flight: Flight[PageOutcome]) -> tuple[Fact, Verdict] | None:
        """Asks once; None if the answer says nothing of any of the window, or none of it had closed by its clock."""
        exchange = job.series.exchange
        venue = self._source.venue(exchange)
        answer = await self._source.fetch_bars(job.series, job.window, flight)
        # Only now is the exchange's clock known for sure: the plan may have been made by a host that runs ahead.
        venue_asked_at = answer.asked_at + self._source.now(exchange) - self._clock()
        window = self._spoken_of(job, answer, Horizon.of(venue, job.series, job.grid, venue_asked_at))
        if window is None:
            return None
        verdict = judge_bars(answer.rows, window, job.grid)
        if answer.speaks_from is not None:  # rows of another time are how it answers
            verdict = replace(verdict, ignored_window=False)
        if not verdict.believable:
            raise BadAnswer(
                f"{exchange} answered {window} with {len(verdict.quarantined)} senseless rows beside "
                f"{verdict.rows.num_rows} good ones (first: {verdict.quarantined[0].reason})",
                exchange=exchange,
                page=str(window),
            )
        return Fact(window, answer.asked_at, verdict.rows.num_rows), verdict

    def _spoken_of(self, job: PageJob, answer: Answer, horizon: Horizon) -> TimeRange | None:
        """What of the window the answer speaks of; the part before that is remembered as unreachable.

        It may have grown too old for the venue while the call waited for quota.
        """
        known_from = max(job.window.start, answer.speaks_from or EARLIEST, horizon.reachable_from)
        silent = between(job.window.start, min(job.window.end, known_from))
        if silent is not None:
            too_old = horizon.unreachable(self._source.venue(job.series.exchange), job.series)
            self._probes.add(job.series, silent, too_old[0].reason if too_old else _ignored(job.series))
        return between(known_from, min(job.window.end, horizon.closed_through))


def _ignored(series: SeriesId) -> str:
    return f"{series.exchange} answered with bars of another time than the one asked for"


class Backfill:
    """One caller's walk over windows, in ascending order, with up to `LOOKAHEAD` of them under way.

    A context manager: leaving it leaves all pages under way, which stops those that nobody else waits for.
    """

    def __init__(
        self, flights: SingleFlight[PageOutcome], fetcher: Fetcher, jobs: Iterator[PageJob], caller: Caller
    ) -> None:
        self._flights = flights
        self._caller = caller
        self._fetcher = fetcher
        self._jobs = jobs
        self._under_way: deque[tuple[PageJob, Flight[PageOutcome]]] = deque()
        self._calls_landed = 0

    def __enter__(self) -> Self:
        self._board()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        while self._under_way:
            self._flights.leave(self._under_way.popleft()[1], self._caller)

    @property
    def first(self) -> TimeRange | None:
        """The first window that is not done; None when all are."""
        return self._under_way[0][0].window if self._under_way else None

    @property
    def wait(self) -> Wait | None:
        """What the first window under way waits for."""
        return self._under_way[0][1].wait if self._under_way else None

    @property
    def call_count(self) -> int:
        """Calls made so far for the windows done and under way."""
        return self._calls_landed + sum(flight.call_count for _, flight in self._under_way)

    async def next(self, timeout_s: float | None = None) -> PageOutcome | None:
        """The outcome of the first window, None if it is not there after `timeout_s`, or asked for anew.

        Raises its error.
        """
        job, flight = self._under_way[0]
        try:
            async with asyncio.timeout(timeout_s):
                await flight.landed.wait()
        except TimeoutError:
            return None
        self._under_way.popleft()
        self._flights.leave(flight, self._caller)
        self._calls_landed += flight.call_count
        outcome = flight.outcome()
        if outcome.is_partial or (job.series.timeframe is None and not outcome.window.contains(job.window)):
            # Of a page of trades another caller wanted another part, or had gone before it was done.
            self._under_way.appendleft((job, self._join(job)))
            return None
        self._board()
        return outcome

    def _board(self) -> None:
        while len(self._under_way) < LOOKAHEAD and (job := next(self._jobs, None)) is not None:
            self._under_way.append((job, self._join(job)))

    def _join(self, job: PageJob) -> Flight[PageOutcome]:
        return self._flights.join((job.series, job.page), partial(self._fetcher.fetch, job), self._caller)
