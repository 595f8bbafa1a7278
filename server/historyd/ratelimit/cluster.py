"""The limiter of a cluster: callers of this process in line, their bookings in a ledger that all processes share.

Rules:
1. At most `concurrency` bookings of this process are in the ledger at once; the rest stand in line here, the urgent
   ones first. So nobody can fill the ledger, a process that is killed wastes few bookings, and an urgent caller waits
   behind few of others.
2. A booking is slept upon once, on this host's monotonic clock, counted from when the reply was there: never early,
   and no two hosts' clocks are ever compared.
3. On waking the call is sent only if the booking still holds: no penalty or loss of state was heard of, the ledger's
   news are being heard, and it is not too late, counted from when the request was sent. Else the booking is handed
   back and made anew in one step.
4. A caller that was late asks for its next bookings with a longer margin (`stretch`), so that a slow network costs
   quota but stops nobody; callers that are in time shorten it again.
5. News of a new epoch wake all sleepers, who book anew.
6. A booking that a cancelled caller leaves behind, also one whose reply was still under way, is handed back.
7. What the venue says of the weight used goes along with the next booking, so it costs no command of its own.

Knows no driver: the ledger (redis.py) does what is shared. Never does: make a call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from historyd.errors import QuotaUnavailable, RateLimited
from historyd.model.time_range import MICROS_PER_MS, MICROS_PER_S
from historyd.model.wait import Wait, WaitCause
from historyd.ratelimit.budget import PARTS
from historyd.ratelimit.line import Line
from historyd.ratelimit.local import LONGEST_PENALTY_S, REAL_TIME, Timing, least_duration, patience, too_long

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from historyd.model.wait import Observer
    from historyd.ratelimit.base import Cost
    from historyd.ratelimit.budget import Budget
    from historyd.ratelimit.errands import Errands

LONGEST_PENALTY: Final = round(LONGEST_PENALTY_S * MICROS_PER_S)
MOST_STRETCH: Final = 2_000 * MICROS_PER_MS
LEAST_STRETCH: Final = 2 * MICROS_PER_MS
_IN_TIME_TO_SHORTEN: Final = 16
"""After so many bookings in time the stretch is halved."""


@dataclass(frozen=True, slots=True)
class Booking:
    """A place in the ledger.

    Attributes:
        number: names it.
        epoch: the epoch it was made in.
        wait: microseconds from when the ledger made it until it is due.
        pause: microseconds of penalty that were left then.
        age: microseconds from when the request was sent until the reply was here.
    """

    number: int
    epoch: int
    wait: int
    pause: int
    age: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """What the venue said of one limit, by its index: `used` millionths, `age` microseconds ago."""

    limit: int
    used: int
    age: int


class LedgerAway(QuotaUnavailable):
    """The ledger does not answer."""


class LongPenalty(Exception):
    """Nothing was booked, as the venue's pause has `left` microseconds to go."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class LongWait(Exception):
    """Nothing was booked, as it would have been due in `wait` microseconds, which is longer than was asked for."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class Ledger(Protocol):
    """The bookings of one budget, shared by all who hold its key. Raises LedgerAway if it does not answer."""

    @property
    def is_away(self) -> bool:
        """Whether it is known not to answer."""

    async def reserve(
        self, parts: Sequence[int], stretch: int, patience: int, returned: Sequence[int], observed: Sequence[Observed]
    ) -> Booking:
        """Hands bookings back, takes note of what the venue said, and books, atomically.

        The call may be sent up to margin + `stretch` after it is due. Nothing is booked if it would be due in more than
        `patience` microseconds: LongWait; or in a pause of more than LONGEST_PENALTY: LongPenalty.
        """

    async def hand_back(self, numbers: Sequence[int]) -> None:
        """Forgets bookings that were not used."""

    async def penalise(self, pause: int) -> None:
        """Nothing is due for so many microseconds; the longest pause counts; void what is booked; tell all."""

    async def begin_anew(self) -> None:
        """Calls were sent that the ledger does not know of: it voids bookings and holds callers for a window."""

    def is_current(self, booking: Booking) -> bool:
        """Whether no newer epoch than the booking's was heard of, and news are being heard."""

    def on_news(self, heard: Callable[[], None]) -> None:
        """`heard` is called whenever `is_current` or `is_away` may have changed."""


class ClusterLimiter:
    """Keeps a budget for all processes that hold the key; see the protocol in base.py."""

    def __init__(self, key: str, budget: Budget, ledger: Ledger, errands: Errands, timing: Timing = REAL_TIME) -> None:
        self.budget = budget
        self._key = key
        self._ledger = ledger
        self._errands = errands
        self._timing = timing
        self._slots = Line(budget.concurrency)
        self._line = Line(budget.concurrency)
        self._unused: list[int] = []
        self._sleepers: set[asyncio.Task[None]] = set()
        self._observed: dict[int, tuple[int, int]] = {}
        self._newest_due = 0
        self._pause_until = 0
        self._heard_pause_until = 0
        self._stretch = 0
        self._in_time = 0
        ledger.on_news(self._wake_all)

    @property
    def key(self) -> str:
        """Names the budget."""
        return self._key

    def slot(self, observer: Observer) -> AbstractAsyncContextManager[None]:
        """One of the budget's `concurrency` places; urgent callers first, else in the order they came."""
        if not self._slots.is_open:
            self._refuse_to_wait_until(self._newest_due, observer)
        return self._slots.place(observer)

    async def acquire(self, cost: Cost, observer: Observer) -> None:
        """Returns when the call may be sent, at once. Raises RateLimited, or QuotaUnavailable without the ledger."""
        parts = tuple([limit.parts(cost) for limit in self.budget.limits])
        if not self._line.is_open:
            self._refuse_to_wait_until(self._newest_due, observer)
            self._forecast(cost, observer)
        async with self._line.place(observer):
            await self._book_until_it_holds(parts, observer)

    def penalise(self, seconds: float | None) -> None:
        """Serves nobody, in no process, for so many seconds; None: for the budget's `penalty_s`."""
        pause = round((self.budget.penalty_s if seconds is None else seconds) * MICROS_PER_S)
        if pause > 0:
            # At once for the callers of this process, whatever becomes of the message.
            self._pause_until = max(self._pause_until, self._timing.clock() + pause)
            self._errands.run(self._ledger.penalise(pause))
            self._wake_all()

    @property
    def pause_left(self) -> int:
        """Microseconds that are left of the longest pause this process knows of."""
        return max(self._pause_until, self._heard_pause_until) - self._timing.clock()

    def observe(self, used: float, interval_ms: int) -> None:
        """The venue counts so much weight in its present interval; the next booking takes that along."""
        for index, limit in enumerate(self.budget.limits):
            if limit.counts_weight_in(interval_ms):
                self._observed[index] = (round(used * PARTS), self._timing.clock())

    def least_duration(self, cost: Cost, calls: int) -> float:
        """Least seconds in which so many calls of this cost can be sent, from an unused quota."""
        return least_duration(self.budget.limits, cost, calls)

    async def _book_until_it_holds(self, parts: Sequence[int], observer: Observer) -> None:
        """Books and sleeps, again for as long as the booking does not hold on waking."""
        while True:
            stretch = self._stretch
            try:
                booking = await self._reserve(parts, stretch, observer)
            except LongWait as refused:
                self._refuse_to_wait_until(self._timing.clock() + refused.wait, observer)
                continue  # somebody more patient has joined meanwhile
            now = self._timing.clock()
            due = self._newest_due = now + booking.wait
            self._heard_pause_until = max(self._heard_pause_until, now + booking.pause)
            if due < self._pause_until:
                self._unused.append(booking.number)
                await self._penalise_again()
                continue
            try:
                self._tell(observer, due, booking)
                await self._sleep_until(due, booking)
            except BaseException:
                self._give_up(booking)
                raise
            on_time = self._on_time(due - booking.age + stretch, parts)
            if on_time and self._may_be_used(booking, due):
                return
            self._unused.append(booking.number)

    async def _reserve(self, parts: Sequence[int], stretch: int, observer: Observer) -> Booking:
        """Books, in a task of its own: if the caller is cancelled meanwhile, what comes of it is handed back."""
        self._refuse_long_pause(self._pause_until - self._timing.clock())
        returned, self._unused = self._unused, []
        may_wait = patience(observer, self._timing.wall())
        asking = self._errands.run(self._ledger.reserve(parts, stretch, may_wait, returned, self._take_observed()))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(self._abandon)
            raise
        except LedgerAway:
            self._unused += returned
            raise
        except LongPenalty as penalty:
            self._refuse_long_pause(penalty.left)
            raise

    async def _penalise_again(self) -> None:
        """This process knows of a pause that the ledger has not heard of, or has lost: it is told."""
        await self._ledger.penalise(max(0, self._pause_until - self._timing.clock()))

    async def _sleep_until(self, due: int, booking: Booking) -> None:
        """Sleeps until the call is due, or the booking is void."""
        while (left := due - self._timing.clock()) > 0 and self._is_current(booking, due):
            sleeping = asyncio.ensure_future(self._timing.sleep(left / MICROS_PER_S))
            self._sleepers.add(sleeping)
            try:
                await asyncio.wait({sleeping})
            finally:
                self._sleepers.discard(sleeping)
                sleeping.cancel()

    def _take_observed(self) -> list[Observed]:
        """What the venue said since the last booking, of that what is not too old to matter."""
        observed, self._observed = self._observed, {}
        now = self._timing.clock()
        seen = [Observed(index, used, now - at) for index, (used, at) in observed.items()]
        return [each for each in seen if each.age < self.budget.limits[each.limit].window]

    def _may_be_used(self, booking: Booking, due: int) -> bool:
        return self._is_current(booking, due) and not self._ledger.is_away and self._timing.clock() >= due

    def _is_current(self, booking: Booking, due: int) -> bool:
        return self._ledger.is_current(booking) and due >= self._pause_until

    def _on_time(self, latest: int, parts: Sequence[int]) -> bool:
        """Whether it is not later than `latest` and the limits' grace; learns how much longer callers here take."""
        graces = [limit.grace for limit, part in zip(self.budget.limits, parts, strict=True) if part]
        late = self._timing.clock() - latest - min(graces) if graces else 0
        if late > 0:
            self._stretch = min(max(2 * self._stretch, self._stretch + late, LEAST_STRETCH), MOST_STRETCH)
            return False
        self._in_time += 1
        if self._in_time % _IN_TIME_TO_SHORTEN == 0:
            self._stretch = self._stretch // 2 if self._stretch > LEAST_STRETCH else 0
        return True

    def _give_up(self, booking: Booking) -> None:
        self._unused.append(booking.number)
        self._errands.run(self._hand_back())

    def _abandon(self, asked: asyncio.Task[Booking]) -> None:
        if not asked.cancelled() and asked.exception() is None:
            self._give_up(asked.result())

    async def _hand_back(self) -> None:
        """Hands back what no booking has taken along yet."""
        numbers, self._unused = self._unused, []
        if numbers:
            await self._ledger.hand_back(numbers)

    def _wake_all(self) -> None:
        for sleeping in self._sleepers:
            sleeping.cancel()

    def _tell(self, observer: Observer, due: int, booking: Booking) -> None:
        now = self._timing.clock()
        if due > now:
            cause = WaitCause.PENALTY if booking.pause > 0 else WaitCause.QUOTA
            observer.waiting(Wait(cause, self._timing.wall() + due - now, self._key))

    def _forecast(self, cost: Cost, observer: Observer) -> None:
        """Tells one who joins the line about when it will be served, if nobody else uses the quota."""
        now = self._timing.clock()
        ahead = sum(1 for _ in self._line.waiting) + 1
        begin = max(self._newest_due, self._pause_until, now)
        until = begin + round(self.least_duration(cost, ahead + 1) * MICROS_PER_S)
        if until > now:
            cause = WaitCause.PENALTY if self._pause_until > now else WaitCause.QUOTA
            observer.waiting(Wait(cause, self._timing.wall() + until - now, self._key))

    def _refuse_to_wait_until(self, due: int, observer: Observer) -> None:
        """Raises WaitTooLong if nobody who wants the call waits until then."""
        now = self._timing.clock()
        if due - now > patience(observer, self._timing.wall()):
            raise too_long(self._key, due - now)

    def _refuse_long_pause(self, left: int) -> None:
        if left > LONGEST_PENALTY:
            raise RateLimited(
                f"the exchange asked for a pause that has {left / MICROS_PER_S:.0f} s left (quota {self._key})",
                retry_after_s=left / MICROS_PER_S,
                key=self._key,
            )
