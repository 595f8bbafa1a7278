"""The reservation algorithm: when may a call be sent, so that no window of any limit ever holds too much.

Rules:
1. The log keeps, per limit, what was booked and for when, in order. A booking is due at the first instant at which
   it fits under every limit, no penalty runs, and no earlier booking is still to come; it is entered in all limits
   or in none.
2. Bookings that together exceed a limit are due at least window + margin apart. So if each is sent between its
   `due` and `due + margin`, no sliding window of the sends holds more than the limit.
3. A call that costs more than a whole limit is sent when the limit is empty, and fills it for as many windows as
   it costs: its entry stands at its due time plus that overrun.
4. A booking that was not used is handed back: its entries vanish, as if it had never been. Bookings made since keep
   their times.
5. What the venue has counted beyond the log's entries was used by others: it takes room from the instant at which it
   was seen, for one window and margin. What the venue said last counts.
6. A penalty removes the bookings that are not due yet and begins a new epoch: tickets of an older epoch are void.

Pure: no clock (`now` is the caller's monotonic microseconds and must not go back), no I/O, no waiting.
Cost: O(log n) for a booking, n being the bookings of one window; memory O(n).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from historyd.ratelimit.base import Cost
    from historyd.ratelimit.budget import Limit

_PRUNE_ABOVE: Final = 64
"""Entries below which nothing is dropped, so that dropping is paid for by many bookings."""
_NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Ticket:
    """A booking.

    Attributes:
        number: names it; numbers rise and are never used again.
        due: microseconds, the first instant at which the call may be sent.
        latest: microseconds, the last instant at which the caller may have woken to send it.
        epoch: the epoch it was booked in.
    """

    number: int
    due: int
    latest: int
    epoch: int


class WindowLog:
    """The bookings of one budget.

    Attributes:
        epoch: rises with every penalty.
        penalty_until: microseconds; nothing is due before.
    """

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.epoch = 0
        self.penalty_until = 0
        self._ledgers = [_Ledger(limit) for limit in limits]
        self._next_number = 0

    def parts(self, cost: Cost) -> tuple[int, ...]:
        """What a call costs under each limit, in millionths."""
        return tuple([ledger.limit.parts(cost) for ledger in self._ledgers])

    def reserve(self, parts: Sequence[int], now: int) -> Ticket:
        """Books a call of this cost, after all that are booked."""
        for ledger in self._ledgers:
            ledger.prune(now)
        due = self.due(parts, now)
        number = self._next_number
        self._next_number += 1
        latest = due + self._grace(parts)
        for ledger, amount in zip(self._ledgers, parts, strict=True):
            ledger.enter(number, due, amount)
        return Ticket(number, due, latest, self.epoch)

    def due(self, parts: Sequence[int], now: int) -> int:
        """When a call of this cost would be due, if it were booked now."""
        due = max(now, self.penalty_until)
        for ledger, amount in zip(self._ledgers, parts, strict=True):
            due = max(due, ledger.last_due, ledger.earliest(amount))
        return due

    def observe(self, index: int, used: int, now: int) -> None:
        """The venue has counted so much under one limit in its present window, ours included."""
        self._ledgers[index].observe(used, now)

    def is_valid(self, ticket: Ticket, now: int) -> bool:
        """Whether the call may be sent now: it is due, not too late, and no penalty came in between."""
        return ticket.epoch == self.epoch and ticket.due <= now <= ticket.latest

    def hand_back(self, ticket: Ticket) -> None:
        """Forgets a booking whose call was not sent; one that a penalty removed is forgotten already."""
        for ledger in self._ledgers:
            ledger.remove(ticket.number)

    def penalise(self, now: int, until: int) -> None:
        """Nothing is due before `until`. Changes nothing if a penalty as long is running."""
        if until <= max(now, self.penalty_until):
            return
        self.penalty_until = until
        self.epoch += 1
        for ledger in self._ledgers:
            ledger.remove_after(now)

    def forecast(self, parts: Sequence[int], now: int) -> int:
        """About when the last of several calls that cost so much together would be due. Books nothing."""
        due = max(now, self.penalty_until)
        for ledger, amount in zip(self._ledgers, parts, strict=True):
            due = max(due, ledger.earliest(amount) + ledger.limit.overrun(amount))
        return due

    def _grace(self, parts: Sequence[int]) -> int:
        """The least grace of the limits that the call counts under; a call that is free is never late."""
        graces = [ledger.limit.grace for ledger, amount in zip(self._ledgers, parts, strict=True) if amount]
        return min(graces, default=_NEVER)


class _Ledger:
    """The entries of one limit, oldest first, as parallel columns; `_sums` is the running total of amounts."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._numbers: list[int] = []
        self._dues: list[int] = []
        self._times: list[int] = []  # the due time plus the overrun: never falls
        self._sums: list[int] = []
        self._dropped = 0  # the running total up to the oldest entry kept
        self._others = 0  # what others were seen to use
        self._others_until = 0

    @property
    def last_due(self) -> int:
        """When the newest booking is due; 0 if there is none."""
        return self._dues[-1] if self._dues else 0

    def earliest(self, amount: int) -> int:
        """The first instant at which so much fits, after all entries; 0 if it fits at any time."""
        if not amount:
            return 0
        room = self.limit.amount - self._others
        beside_others = self._fits(amount, room)
        if not self._others or (amount <= room and beside_others < self._others_until):
            return beside_others
        return max(self._others_until, self._fits(amount, self.limit.amount))

    def observe(self, used: int, now: int) -> None:
        """Takes what is not ours of what the venue has counted to be others'."""
        sent = self._total(bisect_right(self._dues, now))
        left = self._total(bisect_right(self._times, now - self.limit.spacing))
        self._others = max(used - (sent - left), 0)
        self._others_until = now + self.limit.spacing

    def enter(self, number: int, due: int, amount: int) -> None:
        """Adds an entry, not before any other."""
        if not amount:
            return
        total = self._sums[-1] if self._sums else self._dropped
        self._numbers.append(number)
        self._dues.append(due)
        self._times.append(due + self.limit.overrun(amount))
        self._sums.append(total + amount)

    def remove(self, number: int) -> None:
        """Takes one entry out, if it is there."""
        at = bisect_left(self._numbers, number)
        if at == len(self._numbers) or self._numbers[at] != number:
            return
        amount = self._sums[at] - (self._sums[at - 1] if at else self._dropped)
        self._delete(slice(at, at + 1))
        self._sums[at:] = [total - amount for total in self._sums[at:]]

    def remove_after(self, now: int) -> None:
        """Takes all entries out that are due after `now`."""
        self._delete(slice(bisect_right(self._dues, now), None))

    def prune(self, now: int) -> None:
        """Drops entries that no window from `now` on can hold, once half of them are such."""
        count = len(self._times)
        horizon = now - self.limit.spacing
        if count < _PRUNE_ABOVE or self._times[count // 2] > horizon:
            return
        stale = bisect_right(self._times, horizon)
        self._dropped = self._sums[stale - 1]
        self._delete(slice(0, stale))

    def _fits(self, amount: int, room: int) -> int:
        """The first instant at which so much fits into `room`; 0 if it fits at any time."""
        keepable = max(room - amount, 0)  # of what is booked, so much may share its window
        surplus = self._total(len(self._sums)) - keepable
        if surplus <= self._dropped:
            return 0
        return self._times[bisect_left(self._sums, surplus)] + self.limit.spacing

    def _total(self, count: int) -> int:
        """The running total of the first so many entries."""
        return self._sums[count - 1] if count else self._dropped

    def _delete(self, where: slice) -> None:
        for column in (self._numbers, self._dues, self._times, self._sums):
            del column[where]
