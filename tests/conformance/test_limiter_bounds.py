"""What bounds a call beside our own calls: how long its caller waits, and what others use of the venue's quota."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from historyd.errors import WaitTooLong
from historyd.ratelimit.base import Cost
from tests.conformance.limiter_rig import ONE_CALL, SECOND, Waits, in_seconds, options, settle, timing
from tests.conformance.virtual_time import now_us, run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.ratelimit.base import Limiter


def test_a_call_due_after_its_deadline_is_refused_at_once_and_books_nothing(
    make_anywhere: Callable[..., list[Limiter]],
) -> None:
    """The next call could go at 1.01 s: too late for one caller, who hears by how much; in time for the other."""

    async def scenario() -> None:
        one, other = make_anywhere(options(min_interval_s=1), timing(), 2)
        await one.acquire(ONE_CALL, Waits(in_seconds(0)))
        with pytest.raises(WaitTooLong) as refused:
            await other.acquire(ONE_CALL, Waits(in_seconds(1)))
        assert refused.value.retry_after_s == pytest.approx(1.01, abs=0.001)
        assert now_us() == 0
        await other.acquire(ONE_CALL, Waits(in_seconds(1.02)))
        assert now_us() == pytest.approx(1_010_000, abs=2)

    run_virtually(scenario)


def test_a_deadline_holds_in_line_too(make: Callable[..., list[Limiter]]) -> None:
    """Behind one who sleeps until 10 s nobody can be served before, whether he waits for a slot or in line."""

    async def scenario() -> None:
        (limiter,) = make(options(min_interval_s=10), timing(), 1)
        await limiter.acquire(ONE_CALL, Waits())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(call_in_slot(limiter))
            await asyncio.sleep(1)
            with pytest.raises(WaitTooLong):
                async with limiter.slot(Waits(in_seconds(5))):
                    raise AssertionError("it is taken")
            with pytest.raises(WaitTooLong):
                await limiter.acquire(ONE_CALL, Waits(in_seconds(5)))
            assert now_us() == SECOND

    run_virtually(scenario)


async def call_in_slot(limiter: Limiter) -> None:
    async with limiter.slot(Waits()):
        await limiter.acquire(ONE_CALL, Waits())


def test_one_who_stays_may_be_served_after_those_who_left(make: Callable[..., list[Limiter]]) -> None:
    """The one asleep until 10 s goes away: who could not be served behind him can now."""

    async def scenario() -> None:
        (limiter,) = make(options(limits=[{"weight": 10, "interval_ms": 10_000}]), timing(), 1)
        await limiter.acquire(Cost(weight=5), Waits())
        asleep = asyncio.create_task(limiter.acquire(Cost(weight=10), Waits()))
        await settle()
        asleep.cancel()
        await asyncio.wait([asleep])
        await settle()
        await limiter.acquire(Cost(weight=5), Waits(in_seconds(0.01)))
        assert now_us() < SECOND

    run_virtually(scenario)


def test_what_others_use_of_the_venues_quota_is_left_to_them(make_anywhere: Callable[..., list[Limiter]]) -> None:
    """The venue counts 70 where we have sent 10: 60 are somebody else's, 30 are left to us for a minute."""

    async def scenario() -> None:
        one, other = make_anywhere(options(limits=[{"weight": 100, "interval_ms": 60_000}]), timing(), 2)
        ten = Cost(weight=10)
        await one.acquire(ten, Waits())
        one.observe(70, 60_000)
        await one.acquire(ten, Waits())  # takes along what one has heard
        for limiter in (one, other):
            await limiter.acquire(ten, Waits())
        assert now_us() == 0
        await other.acquire(ten, Waits())
        assert now_us() == pytest.approx(60.3 * SECOND, abs=2)

    run_virtually(scenario)


def test_the_venues_count_of_our_own_calls_costs_nothing(make: Callable[..., list[Limiter]]) -> None:
    """It counts just what we sent, or less as its minute is a new one, or in an interval that we have no limit of."""

    async def scenario() -> None:
        (limiter,) = make(options(limits=[{"weight": 100, "interval_ms": 60_000}]), timing(), 1)
        for used in (10, 20, 0, 15, 50):
            await limiter.acquire(Cost(weight=10), Waits())
            limiter.observe(used, 60_000)
        limiter.observe(1_000, 1_000)
        for _ in range(5):
            await limiter.acquire(Cost(weight=10), Waits())
        assert now_us() == 0

    run_virtually(scenario)


def test_what_the_venue_said_last_counts(make: Callable[..., list[Limiter]]) -> None:
    """Its next minute begins, others have used nothing of it: all is ours again."""

    async def scenario() -> None:
        (limiter,) = make(options(limits=[{"weight": 100, "interval_ms": 60_000}]), timing(), 1)
        limiter.observe(95, 60_000)
        await limiter.acquire(Cost(weight=5), Waits())
        await asyncio.sleep(20)
        limiter.observe(5, 60_000)
        await limiter.acquire(Cost(weight=95), Waits())
        assert now_us() == 20 * SECOND

    run_virtually(scenario)


def test_what_was_heard_earlier_never_replaces_what_was_heard_later(
    make_anywhere: Callable[..., list[Limiter]],
) -> None:
    """One holder heard of 90 used by others before the other one heard of none, but tells of it later, or too late."""

    async def scenario() -> None:
        one, other = make_anywhere(options(limits=[{"weight": 100, "interval_ms": 60_000}]), timing(), 2)
        one.observe(90, 60_000)
        await asyncio.sleep(5)
        other.observe(0, 60_000)
        for limiter in (other, one, other):
            await limiter.acquire(Cost(weight=30), Waits())
        assert now_us() == 5 * SECOND
        one.observe(100, 60_000)
        await asyncio.sleep(70)
        await one.acquire(Cost(weight=100), Waits())
        assert now_us() == 75 * SECOND

    run_virtually(scenario)
