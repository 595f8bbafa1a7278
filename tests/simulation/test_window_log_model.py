"""The reservation algorithm against a naive oracle, in any order of bookings, wakes, hand-backs and penalties.

The oracle keeps every booking in one plain list and tries every instant at which anything changes. What is checked
at every step: a booking is due when the oracle says, what the venue was seen to count beside ours included; no sliding
window of what was really sent holds more than its limit, although callers wake late and send late; a call above a
limit has that limit to itself for as long as it costs; no booking is valid inside a penalty; callers are due in the
order they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.rig.redis_server import redis_server
from historyd.ratelimit import window_log
from historyd.ratelimit.budget import Limit, Unit
from historyd.ratelimit.window_log import Ticket, WindowLog
from tests.virtual_redis import LuaLog

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMITS = st.lists(
    st.builds(Limit, st.just(Unit.CALLS), st.integers(1, 12), st.integers(1, 60), st.integers(0, 12)),
    min_size=1,
    max_size=3,
)
PARTS = st.lists(st.one_of(st.integers(0, 6), st.integers(0, 30)), min_size=3, max_size=3)
STEPS = st.one_of(st.integers(0, 4), st.integers(0, 80))


@dataclass
class Booking:
    ticket: Ticket
    parts: list[int]


@dataclass
class Send:
    at: int
    parts: list[int]


class Oracle:
    """The bookings, as a list."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = limits
        self.bookings: list[Booking] = []
        self.others = [(0, 0)] * len(limits)
        """What others were seen to use under each limit, and until when it counts."""

    def observe(self, index: int, used: int, now: int) -> None:
        """The venue has counted so much."""
        sent = [each for each in self.bookings if each.ticket.due <= now < self.gone_at(each, index)]
        ours = sum(booking.parts[index] for booking in sent)
        limit = self.limits[index]
        self.others[index] = (max(used - ours, 0), now + limit.window + limit.margin)

    def fits(self, parts: Sequence[int], instant: int) -> bool:
        """Whether a call fits under every limit at an instant after all bookings."""
        for index, limit in enumerate(self.limits):
            if not parts[index]:
                continue
            held = sum(
                min(booking.parts[index], limit.amount)
                for booking in self.bookings
                if self.gone_at(booking, index) > instant
            )
            others, until = self.others[index]
            held += others if instant < until else 0
            if held + min(parts[index], limit.amount) > limit.amount:
                return False
        return True

    def due(self, parts: Sequence[int], floor: int) -> int:
        """The first instant from `floor` on, and not before any booking, at which the call fits."""
        floor = max([floor, *(booking.ticket.due for booking in self.bookings)])
        changes = {self.gone_at(booking, limit) for booking in self.bookings for limit in range(len(self.limits))}
        changes |= {until for _, until in self.others}
        candidates = [floor, *sorted(instant for instant in changes if instant > floor)]
        return next(instant for instant in candidates if self.fits(parts, instant))

    def gone_at(self, booking: Booking, index: int) -> int:
        """From when on a booking no longer counts under one of the limits."""
        limit = self.limits[index]
        return booking.ticket.due + limit.overrun(booking.parts[index]) + limit.window + limit.margin

    def forget(self, number: int) -> None:
        self.bookings = [booking for booking in self.bookings if booking.ticket.number != number]


class WindowLogMachine(RuleBasedStateMachine):
    """Callers that book, wake in time or late, send at once or late, give up; a venue that asks for pauses."""

    log: WindowLog | LuaLog

    def make_log(self, limits: Sequence[Limit]) -> WindowLog | LuaLog:
        return WindowLog(limits)

    @initialize(limits=LIMITS)
    def begin(self, limits: list[Limit]) -> None:
        self.limits = limits
        self.log = self.make_log(limits)
        self.oracle = Oracle(limits)
        self.now = 0
        self.penalty_until = 0
        self.waiting: list[Booking] = []
        self.sends: list[Send] = []

    @rule(parts=PARTS)
    def reserve(self, parts: list[int]) -> None:
        parts = parts[: len(self.limits)]
        ticket = self.log.reserve(parts, self.now)
        assert ticket.due == self.oracle.due(parts, max(self.now, self.penalty_until))
        assert ticket.latest >= ticket.due
        booking = Booking(ticket, parts)
        self.waiting.append(booking)
        if any(parts):
            self.oracle.bookings.append(booking)

    @rule(data=st.data(), used=st.integers(0, 25))
    def observe(self, data: st.DataObject, used: int) -> None:
        """The venue tells how much it has counted under one limit, by us and by others."""
        index = data.draw(st.integers(0, len(self.limits) - 1))
        self.log.observe(index, used, self.now)
        self.oracle.observe(index, used, self.now)

    @rule(step=STEPS)
    def time_passes(self, step: int) -> None:
        self.now += step

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def next_is_due(self, data: st.DataObject) -> None:
        """Time moves on to when a caller is due, or to when it is still or no longer in time."""
        ticket = data.draw(st.sampled_from(self.waiting)).ticket
        self.now = max(self.now, data.draw(st.sampled_from([ticket.due, min(ticket.latest, ticket.due + 12)])))
        self.now += data.draw(st.integers(0, 1))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        """A caller wakes, validates, and sends as late as its margin allows, or hands back."""
        booking = data.draw(st.sampled_from(self.waiting))
        if self.now < booking.ticket.due:
            assert not self.log.is_valid(booking.ticket, self.now)
            return
        self.waiting.remove(booking)
        if self.log.is_valid(booking.ticket, self.now):
            assert self.now >= self.penalty_until
            graces = [limit.grace for limit, part in zip(self.limits, booking.parts, strict=True) if part]
            late = data.draw(st.sampled_from([0, min(graces, default=0)]))
            self.sends.append(Send(self.now + late, booking.parts))
        else:
            self.log.hand_back(booking.ticket)
            self.oracle.forget(booking.ticket.number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A caller is cancelled while it waits."""
        booking = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(booking)
        self.log.hand_back(booking.ticket)
        self.oracle.forget(booking.ticket.number)

    @rule(pause=STEPS)
    def penalise(self, pause: int) -> None:
        """The venue asks for a pause; only one longer than what is left of the last changes anything."""
        until = self.now + pause
        epoch = self.log.epoch
        self.log.penalise(self.now, until)
        if until <= max(self.now, self.penalty_until):
            assert self.log.epoch == epoch
            return
        assert self.log.epoch == epoch + 1
        self.penalty_until = until
        self.oracle.bookings = [each for each in self.oracle.bookings if each.ticket.due <= self.now]
        assert not any(self.log.is_valid(each.ticket, each.ticket.due) for each in self.waiting)

    @invariant()
    def no_window_is_overfull(self) -> None:
        for index, limit in enumerate(getattr(self, "limits", ())):
            for first in self.sends:
                held = sum(
                    min(send.parts[index], limit.amount)
                    for send in self.sends
                    if first.at <= send.at < first.at + limit.window
                )
                assert held <= limit.amount

    @invariant()
    def a_call_above_a_limit_has_it_to_itself(self) -> None:
        for index, limit in enumerate(getattr(self, "limits", ())):
            for big in self.sends:
                lasts = limit.overrun(big.parts[index])
                if lasts:
                    others = [send.at for send in self.sends if send is not big and send.parts[index]]
                    assert not [at for at in others if big.at - limit.window < at < big.at + lasts + limit.window]

    @invariant()
    def callers_are_due_in_the_order_they_came(self) -> None:
        dues = [
            booking.ticket.due
            for booking in getattr(self, "waiting", ())
            if any(booking.parts) and booking.ticket.epoch == self.log.epoch
        ]
        assert dues == sorted(dues)


TestWindowLog = WindowLogMachine.TestCase
TestWindowLog.settings = settings(max_examples=300, stateful_step_count=50, deadline=None, derandomize=True)


def test_the_scripts_in_redis_are_the_same_algorithm() -> None:
    """The same model, the same oracle, on the real scripts in a real Redis."""
    with redis_server() as server, server.client() as client:

        class LuaMachine(WindowLogMachine):
            def make_log(self, limits: Sequence[Limit]) -> LuaLog:
                return LuaLog(client, limits)

        few = settings(max_examples=80, stateful_step_count=40, deadline=None, derandomize=True)
        run_state_machine_as_test(LuaMachine, settings=few)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(limits=LIMITS, costs=st.lists(PARTS, min_size=1, max_size=12), late=st.integers(0, 5))
def test_a_long_run_stays_exact_when_old_entries_are_dropped(
    limits: list[Limit], costs: list[list[int]], late: int
) -> None:
    """Old entries are dropped as soon as they may be: every booking is still due when the oracle says."""
    with patch.object(window_log, "_PRUNE_ABOVE", 2):
        run_long(limits, costs, late)


def run_long(limits: list[Limit], costs: list[list[int]], late: int) -> None:
    log, oracle, now = WindowLog(limits), Oracle(limits), 0
    for turn in range(100):
        parts = costs[turn % len(costs)][: len(limits)]
        ticket = log.reserve(parts, now)
        assert ticket.due == oracle.due(parts, now)
        if any(parts):
            oracle.bookings.append(Booking(ticket, parts))
        oracle.bookings = [
            booking
            for booking in oracle.bookings
            if any(oracle.gone_at(booking, index) > now for index in range(len(limits)))
        ]
        if turn % 7 == 3:
            log.hand_back(ticket)
            oracle.forget(ticket.number)
        else:
            now = ticket.due + late


def test_memory_is_bounded_by_one_window() -> None:
    """However many calls were booked, about one window of them is kept."""
    limit = Limit(Unit.CALLS, amount=20, window=1_000, margin=10)
    log, now = WindowLog([limit]), 0
    for _ in range(10_000):
        now = log.reserve([1], now).due
    assert len(log._ledgers[0]._sums) <= 128
