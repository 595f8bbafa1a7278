"""The limiter of one process, in memory: callers stand in line, the first of them holds a booking and sleeps once.

Rules:
1. First come, first served, urgent callers before the others (line.py): only the head of the line books, so nobody ever
   holds a place that another must give up, and a caller that leaves, wherever it stands, costs the others nothing.
2. On waking, the head sends only if its booking is still valid; if it woke too late, or a penalty began meanwhile,
   it hands the booking back and books again, still at the head.
3. A caller that is cancelled hands its booking back before the next one books.
4. While the venue has asked for a pause of more than LONGEST_PENALTY_S, callers are refused rather than kept; so is a
   caller whose deadline comes before its turn can.

One event loop per limiter. What other processes send is not known here, nor what this one sent before a restart.
Never does: make a call, or read a clock other than the one it was given.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from historyd.errors import RateLimited, WaitTooLong
from historyd.model.time_range import MICROS_PER_S
from historyd.model.wait import Wait, WaitCause
from historyd.ratelimit.budget import PARTS
from historyd.ratelimit.line import Line
from historyd.ratelimit.window_log import WindowLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from historyd.model.wait import Observer
    from historyd.ratelimit.base import Cost
    from historyd.ratelimit.budget import Budget, Limit

LONGEST_PENALTY_S: Final = 60.0
"""A pause of more than this is told to callers as an error; they cannot be kept for a ban of three days."""


FOREVER: Final = 1 << 52
"""Microseconds that nobody waits."""


def _monotonic() -> int:
    return time.monotonic_ns() // 1_000


def _wall() -> int:
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a limiter's time comes from.

    Attributes:
        clock: microseconds; never goes back.
        wall: microseconds since 1970 UTC, only to tell observers until when they wait.
        sleep: sleeps for so many seconds, or longer.
    """

    clock: Callable[[], int] = _monotonic
    wall: Callable[[], int] = _wall
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


REAL_TIME: Final = Timing()


class LocalLimiter:
    """Keeps a budget for all who hold this object; see the protocol in base.py."""

    def __init__(self, key: str, budget: Budget, timing: Timing = REAL_TIME) -> None:
        self.budget = budget
        self._key = key
        self._timing = timing
        self._log = WindowLog(budget.limits)
        self._slots = Line(budget.concurrency)
        self._head = Line(1)
        self._nothing = (0,) * len(budget.limits)
        self._line_parts = [0] * len(budget.limits)  # what all in line behind the head will cost together

    @property
    def key(self) -> str:
        """Names the budget."""
        return self._key

    def slot(self, observer: Observer) -> AbstractAsyncContextManager[None]:
        """One of the budget's `concurrency` places; urgent callers first, else in the order they came."""
        if not self._slots.is_open:
            now = self._timing.clock()
            self._refuse_to_wait(self._log.due(self._nothing, now) - now, observer)
        return self._slots.place(observer)

    async def acquire(self, cost: Cost, observer: Observer) -> None:
        """Returns when the call may be sent, at once; see the protocol. Raises RateLimited."""
        parts = self._log.parts(cost)
        if self._head.is_open and self._may_send_now(parts):
            return
        now = self._timing.clock()
        self._refuse_long_penalty(now)
        self._refuse_to_wait(self._log.due(parts, now) - now, observer)
        await self._become_head(parts, observer)
        try:
            await self._wait_at_head(parts, observer)
        finally:
            self._head.leave()

    def penalise(self, seconds: float | None) -> None:
        """Serves nobody for so many seconds, None: for the budget's `penalty_s`; the longest pause counts."""
        pause_s = self.budget.penalty_s if seconds is None else seconds
        now = self._timing.clock()
        self._log.penalise(now, now + round(pause_s * MICROS_PER_S))

    def observe(self, used: float, interval_ms: int) -> None:
        """The venue counts so much weight in its present interval; what it has from others takes their room."""
        for index, limit in enumerate(self.budget.limits):
            if limit.counts_weight_in(interval_ms):
                self._log.observe(index, round(used * PARTS), self._timing.clock())

    def least_duration(self, cost: Cost, calls: int) -> float:
        """Least seconds in which so many calls of this cost can be sent, from an unused quota."""
        return least_duration(self.budget.limits, cost, calls)

    def _may_send_now(self, parts: Sequence[int]) -> bool:
        """Books a call that need not wait; books nothing if it must."""
        now = self._timing.clock()
        ticket = self._log.reserve(parts, now)
        if ticket.due <= now:
            return True
        self._log.hand_back(ticket)
        return False

    async def _become_head(self, parts: Sequence[int], observer: Observer) -> None:
        """Stands in line; a head that is done leaves its place to the next one there."""
        self._join_line(parts)
        try:
            if not self._head.is_open:
                self._tell(observer, self._log.forecast(self._line_parts, self._timing.clock()))
            await self._head.enter(observer)
        finally:
            self._leave_line(parts)

    async def _wait_at_head(self, parts: Sequence[int], observer: Observer) -> None:
        """Books, sleeps until the booking is due, and books again for as long as it woke to a void one."""
        while True:
            now = self._timing.clock()
            self._refuse_long_penalty(now)
            ticket = self._log.reserve(parts, now)
            try:
                self._refuse_to_wait(ticket.due - now, observer)
                await self._sleep_until(ticket.due, observer)
            except BaseException:
                self._log.hand_back(ticket)
                raise
            if self._log.is_valid(ticket, self._timing.clock()):
                return
            self._log.hand_back(ticket)

    async def _sleep_until(self, due: int, observer: Observer) -> None:
        if due > self._timing.clock():
            self._tell(observer, due)
        while (left := due - self._timing.clock()) > 0:  # a timer may fire a few microseconds early
            await self._timing.sleep(left / MICROS_PER_S)

    def _refuse_to_wait(self, wait: int, observer: Observer) -> None:
        """Raises WaitTooLong if nobody who wants the call waits for so many microseconds."""
        if wait > patience(observer, self._timing.wall()):
            raise too_long(self._key, wait)

    def _refuse_long_penalty(self, now: int) -> None:
        left_s = (self._log.penalty_until - now) / MICROS_PER_S
        if left_s > LONGEST_PENALTY_S:
            raise RateLimited(
                f"the exchange asked for a pause that has {left_s:.0f} s left (quota {self._key})",
                retry_after_s=left_s,
                key=self._key,
            )

    def _tell(self, observer: Observer, due: int) -> None:
        now = self._timing.clock()
        cause = WaitCause.PENALTY if self._log.penalty_until > now else WaitCause.QUOTA
        observer.waiting(Wait(cause, self._timing.wall() + due - now, self._key))

    def _join_line(self, parts: Sequence[int]) -> None:
        self._line_parts = [total + part for total, part in zip(self._line_parts, parts, strict=True)]

    def _leave_line(self, parts: Sequence[int]) -> None:
        self._line_parts = [total - part for total, part in zip(self._line_parts, parts, strict=True)]


def patience(observer: Observer, wall: int) -> int:
    """Microseconds that somebody who wants the call still waits for it; `wall` is the host's clock."""
    return FOREVER if observer.deadline is None else max(0, observer.deadline - wall)


def too_long(key: str, wait: int) -> WaitTooLong:
    """What a caller is told whose deadline comes first; the call would be due in `wait` microseconds."""
    wait_s = wait / MICROS_PER_S
    message = f"the quota {key} is spent for {wait_s:.1f} s more, and the call's deadline comes before"
    return WaitTooLong(message, retry_after_s=wait_s, key=key)


def least_duration(limits: Sequence[Limit], cost: Cost, calls: int) -> float:
    """Least seconds between the first and the last of so many calls of one cost, from an unused quota.

    Under one limit: the calls go in bursts of as many as fit, one spacing apart; calls that cost more than the
    limit go one by one, each after the overrun of the one before. Several limits: the slowest rules.
    """
    return max((_span(limit, limit.parts(cost), calls) for limit in limits), default=0) / MICROS_PER_S


def _span(limit: Limit, parts: int, calls: int) -> int:
    if not parts or calls < 2:
        return 0
    burst = max(limit.amount // parts, 1)
    return (calls - 1) // burst * (limit.spacing + limit.overrun(parts))
