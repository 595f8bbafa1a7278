"""The limiter of a cluster that goes on while the ledger is away, with this server's share of the quota.

Rules:
1. While the ledger answers, it alone counts.
2. Once it is away, nothing is sent for a window, its margin and NOTICE_S: for as long as what the others had booked may
   still be sent. Then this server keeps its share in memory: each limit divided by the number of servers, rounded down.
3. A call that costs more than the share of a limit is refused, as it would take from the others'.
4. When the ledger is back, those who wait go to it. If it was away for as long as some may have used their shares, it
   does not know of those calls: its state is begun anew, which holds everybody for a window.
5. Pauses that the venue asked for hold here too, as far as this server has heard of them.

All servers cut off together stay within the quota. One that is cut off alone uses its share beside the others' whole
quota, so up to a share too much is sent: what it cannot know.
Never does: make a call, or guess how many servers there are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from historyd.errors import QuotaUnavailable
from historyd.model.time_range import MICROS_PER_S
from historyd.model.wait import Wait, WaitCause
from historyd.ratelimit.budget import Budget
from historyd.ratelimit.cluster import LedgerAway
from historyd.ratelimit.local import REAL_TIME, LocalLimiter, Timing, patience, too_long

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractAsyncContextManager

    from historyd.model.wait import Observer
    from historyd.ratelimit.base import Cost
    from historyd.ratelimit.cluster import ClusterLimiter, Ledger

NOTICE_S: Final = 2.5
"""Within this time all servers have noticed that the ledger is away."""


class ShareLimiter:
    """A limiter on a ledger, and on a share of its quota while it is away; see the protocol in base.py."""

    def __init__(self, cluster: ClusterLimiter, ledger: Ledger, timing: Timing = REAL_TIME) -> None:
        budget = cluster.budget
        assert budget.replicas is not None
        self.budget = budget
        self._cluster = cluster
        self._ledger = ledger
        self._timing = timing
        self._limits = tuple(limit.share(budget.replicas) for limit in budget.limits)
        self._share = LocalLimiter(cluster.key, Budget(self._limits, budget.concurrency, budget.penalty_s), timing)
        self._longest = max(limit.spacing for limit in budget.limits)
        self._away_since: int | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._may_have_shared = False
        self._returning = asyncio.Lock()
        ledger.on_news(self._look)

    @property
    def key(self) -> str:
        """Names the budget."""
        return self._cluster.key

    def slot(self, observer: Observer) -> AbstractAsyncContextManager[None]:
        """One of the budget's `concurrency` places, whoever counts."""
        return self._cluster.slot(observer)

    async def acquire(self, cost: Cost, observer: Observer) -> None:
        """Returns when the call may be sent, at once. Raises RateLimited, or QuotaUnavailable for what has no share."""
        while True:
            try:
                await self._return()
                await self._cluster.acquire(cost, observer)
            except LedgerAway:
                self._look()
                if await self._acquire_share(cost, observer):
                    return
            else:
                return

    def penalise(self, seconds: float | None) -> None:
        """Serves nobody for so many seconds, None: for the budget's `penalty_s`, by ledger or by share."""
        self._cluster.penalise(seconds)
        self._share.penalise(seconds)

    def observe(self, used: float, interval_ms: int) -> None:
        """Takes note of what the venue counts; a share has no part in it, being counted against what all use."""
        self._cluster.observe(used, interval_ms)

    def least_duration(self, cost: Cost, calls: int) -> float:
        """Least seconds in which so many calls of this cost can be sent, from an unused quota."""
        return self._cluster.least_duration(cost, calls)

    def _look(self) -> None:
        """Takes note of when the ledger went away, and when it is back."""
        now = self._timing.clock()
        if self._ledger.is_away and self._away_since is None:
            self._away_since = now
        elif not self._ledger.is_away and self._away_since is not None:
            if now - self._away_since >= self._longest:
                self._may_have_shared = True
            self._away_since = None
            for wait in self._waits:
                wait.reschedule(0)

    async def _return(self) -> None:
        """Begins the state anew, once, if it may lack calls that were sent by shares."""
        if not self._may_have_shared:
            return
        async with self._returning:
            if self._may_have_shared:
                await self._ledger.begin_anew()
                self._may_have_shared = False

    async def _acquire_share(self, cost: Cost, observer: Observer) -> bool:
        """True: the call may be sent, by this server's share. False: the ledger is back."""
        since = self._away_since
        if since is None:
            return False
        self._refuse_without_share(cost)
        if not await self._hold(since, observer):
            return False
        self._share.penalise(self._cluster.pause_left / MICROS_PER_S)
        return await self._while_away(since, self._share.acquire(cost, observer))

    def _refuse_without_share(self, cost: Cost) -> None:
        for limit in self._limits:
            if limit.parts(cost) > limit.amount:
                raise QuotaUnavailable(
                    f"the quota {self.key} is shared through Redis, which does not answer, "
                    "and this server's share of it is less than the call costs",
                    key=self.key,
                )

    async def _hold(self, since: int, observer: Observer) -> bool:
        """Waits until what others had booked has been sent; False if the ledger is back before."""
        wait = since + self._longest + round(NOTICE_S * MICROS_PER_S) - self._timing.clock()
        if wait <= 0:
            return True
        if wait > patience(observer, self._timing.wall()):
            raise too_long(self.key, wait)
        observer.waiting(Wait(WaitCause.QUOTA, self._timing.wall() + wait, self.key))
        return await self._while_away(since, self._timing.sleep(wait / MICROS_PER_S))

    async def _while_away(self, since: int, work: Awaitable[None]) -> bool:
        """Awaits the work; False if the ledger, away since then, is back before: then nothing of the work is left."""
        try:
            # In the caller's own task: a call must be sent at once when it may be.
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                await work
        except TimeoutError:
            return False
        finally:
            self._waits.discard(wait)
        return self._away_since == since
