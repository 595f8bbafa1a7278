"""The reservation algorithm by example; tests/simulation checks it against an oracle in any order of events."""

from __future__ import annotations

from historyd.ratelimit.base import Cost
from historyd.ratelimit.budget import PARTS, Limit, Unit
from historyd.ratelimit.window_log import WindowLog

PER_SECOND = Limit(Unit.CALLS, amount=2 * PARTS, window=1_000, margin=10)
PER_MINUTE = Limit(Unit.WEIGHT, amount=5 * PARTS, window=60_000, margin=300)


def log(*limits: Limit) -> tuple[WindowLog, tuple[int, ...]]:
    """A log, and what a call of weight 1 costs in it."""
    made = WindowLog(limits)
    return made, made.parts(Cost())


def test_bookings_are_one_window_and_margin_apart() -> None:
    """Two fit at once, the next two a window and margin later, and so on."""
    book, call = log(PER_SECOND)
    assert [book.reserve(call, 0).due for _ in range(6)] == [0, 0, 1_010, 1_010, 2_020, 2_020]


def test_the_stricter_of_several_limits_rules() -> None:
    """The sixth call has to wait for the minute, though the second has room."""
    book, call = log(PER_SECOND, PER_MINUTE)
    assert [book.reserve(call, 0).due for _ in range(7)] == [0, 0, 1_010, 1_010, 2_020, 60_300, 60_300]


def test_a_caller_may_wake_within_half_of_the_least_margin() -> None:
    """The other half is for the way to the wire. Only limits under which the call counts have a say."""
    book, call = log(PER_SECOND, PER_MINUTE)
    ticket = book.reserve(call, 0)
    assert ticket.latest == 5
    assert book.is_valid(ticket, 5)
    assert not book.is_valid(ticket, 6)
    assert book.reserve(book.parts(Cost(calls=0)), 0).latest == 150


def test_a_cost_above_the_limit_fills_it_for_as_long_as_it_costs() -> None:
    """Two and a half times the limit: the next fits after two and a half windows and one margin."""
    book, call = log(PER_SECOND)
    assert book.reserve(book.parts(Cost(calls=5)), 0).due == 0
    assert book.reserve(call, 0).due == 2_510
    odd = Limit(Unit.CALLS, amount=3, window=10, margin=0)
    assert odd.overrun(4) == 4  # a third of ten, rounded up: never too short


def test_a_booking_handed_back_is_free_for_the_next() -> None:
    """As if it had never been; handing it back twice changes nothing."""
    book, call = log(PER_SECOND)
    first, second, third = (book.reserve(call, 0) for _ in range(3))
    book.hand_back(third)
    book.hand_back(third)
    book.hand_back(first)
    assert book.reserve(call, 7).due == 7
    assert book.reserve(call, 7).due == second.due + 1_010


def test_a_penalty_voids_every_ticket_and_frees_what_was_not_due() -> None:
    """Afterwards bookings begin at its end; what was sent before still counts."""
    book, call = log(PER_SECOND)
    tickets = [book.reserve(call, 0) for _ in range(4)]
    book.penalise(now=500, until=900)
    assert not any(book.is_valid(ticket, ticket.due) for ticket in tickets)
    assert book.reserve(call, 500).due == 1_010
    book.penalise(now=500, until=5_000)
    assert [book.reserve(call, 500).due for _ in range(3)] == [5_000, 5_000, 6_010]


def test_fractions_add_up_exactly() -> None:
    """Ten calls of weight 0.1 are one, not a little more."""
    book = WindowLog([Limit.of(Unit.WEIGHT, 1, 1_000)])
    tenth = book.parts(Cost(weight=0.1))
    assert {book.reserve(tenth, 0).due for _ in range(10)} == {0}
    assert book.reserve(tenth, 0).due == 1_010_000


def test_a_forecast_books_nothing() -> None:
    """Five calls at two a second: the last one goes about two windows later; asked twice, the same."""
    book, call = log(PER_SECOND)
    five = [5 * part for part in call]
    assert book.forecast(five, 0) == book.forecast(five, 0) == 1_500
    assert book.reserve(call, 0).due == 0
