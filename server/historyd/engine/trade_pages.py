"""Fetches pages of trades: as many calls as there are trades in the page, each answer committed as it arrives.

All state is in the store: what an answer proved is covered, the rest of the page is asked for next, by this fetcher or
after a crash by another. So a crash between any two calls loses and doubles nothing. An answer may prove more than
was asked for (the quiet days behind the last trade of a page); that is kept, but never over what is known already.

Never does: know how a venue is asked, or hold the rows of more than one answer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from historyd.coverage import Fact, disjoin, subtract
from historyd.engine.backfill import PageOutcome, under_lease
from historyd.engine.opening import of_stored_series
from historyd.errors import BadAnswer
from historyd.model.rows import EMPTY
from historyd.model.series import Kind
from historyd.model.time_range import TimeRange, between
from historyd.planner import missing
from historyd.quality.trades import judge_trades
from historyd.quality.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.engine.backfill import PageJob
    from historyd.engine.probes import Probes
    from historyd.engine.retrying import Retrying
    from historyd.engine.singleflight import Flight
    from historyd.leases.base import Leases
    from historyd.sources.base import Source
    from historyd.stores.base import Store


class TradeFetcher:
    """Asks for the trades of one page until all of it is covered or cannot be had."""

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
        self._source = source
        self._leases = leases
        self._probes = probes
        self._retrying = retrying
        self._clock = clock

    async def fetch(self, job: PageJob, flight: Flight[PageOutcome]) -> PageOutcome:
        """Covers the window of a job as far as can be; ends early, between two calls, if nobody wants it any more.

        Raises what the source raises once the retries are spent, or what the store raises.
        """

        async def is_done() -> bool:
            return await self._first_gap(job) is None

        return await under_lease(self._leases, job, flight, is_done, self._fetch)

    async def _fetch(self, job: PageJob, flight: Flight[PageOutcome]) -> PageOutcome:
        rows = set_aside = 0
        policy = self._source.retry_policy(job.series.exchange)
        while (gap := await self._first_gap(job)) is not None:
            if flight.unwanted:
                return PageOutcome(job.window, rows, flight.call_count, set_aside, is_partial=True)
            with of_stored_series(job.series):
                verdict = await self._retrying.call(policy, flight, partial(self._ask_and_keep, job, gap, flight))
            if verdict is None:
                break
            rows += verdict.rows.num_rows
            set_aside += len(verdict.quarantined)
        return PageOutcome(job.window, rows, flight.call_count, set_aside)

    async def _first_gap(self, job: PageJob) -> TimeRange | None:
        """The first part of the window to ask for now."""
        venue_now = self._source.now(job.series.exchange)
        window = between(job.window.start, min(job.window.end, self._settled(job, venue_now)))
        if window is None:
            return None
        covered = await self._store.coverage(job.series, window)
        gaps = missing(covered, window, venue_now=venue_now, believed_since=job.believed_since)
        unserved = [hit.range for hit in disjoin(self._probes.of(job.series, job.believed_since))]
        parts = (part for gap in gaps for part in subtract(gap, unserved))
        return next(parts, None)

    async def _ask_and_keep(self, job: PageJob, gap: TimeRange, flight: Flight[PageOutcome]) -> Verdict | None:
        """Asks once and keeps what was proved; None if by the clock of this very answer that is nothing."""
        exchange = job.series.exchange
        answer = await self._source.fetch_trades(job.series, gap, flight)
        if answer.unreachable is not None:
            self._probes.add(job.series, answer.unreachable.range, answer.unreachable.reason)
        # Only now is the exchange's clock known for sure: the plan may have been made by a host that runs ahead.
        settled = self._settled(job, answer.asked_at + self._source.now(exchange) - self._clock())
        proved = answer.covered and await self._new(job, gap, answer.covered, settled)
        if not proved:
            learned = answer.unreachable is not None and answer.unreachable.range.overlaps(gap)
            return Verdict(EMPTY[Kind.TRADES]) if learned else None
        verdict = judge_trades(answer.rows, proved)
        if not verdict.believable:
            raise BadAnswer(
                f"{exchange} answered {proved} with {len(verdict.quarantined)} senseless rows beside "
                f"{verdict.rows.num_rows} good ones (first: {verdict.quarantined[0].reason})",
                exchange=exchange,
                page=str(proved),
            )
        fact = Fact(proved, answer.asked_at, verdict.rows.num_rows)
        await self._store.commit(job.series, fact, verdict.rows, verdict.quarantined)
        return verdict

    async def _new(self, job: PageJob, gap: TimeRange, proved: TimeRange, settled: int) -> TimeRange | None:
        """What to commit: what was proved and has settled, up to what is known on both sides of the gap."""
        span = between(proved.start, min(proved.end, settled))
        if span is None or not span.overlaps(gap):
            return None
        if gap.contains(span):
            return span
        known = await self._store.coverage(job.series, span)
        start = max((other.range.end for other in known if other.range.end <= gap.start), default=span.start)
        end = min((other.range.start for other in known if other.range.start >= gap.end), default=span.end)
        return TimeRange(max(start, span.start), min(end, span.end))

    def _settled(self, job: PageJob, venue_now: int) -> int:
        return job.grid.floor(venue_now - self._source.venue(job.series.exchange).trade_settle)
