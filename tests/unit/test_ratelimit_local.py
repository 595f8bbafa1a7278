"""What the limiter in memory adds to the suite that all limiters pass: real time, and its place at the head."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from historyd.model.wait import Wait, WaitCause
from historyd.ratelimit.base import Cost
from historyd.ratelimit.budget import Budget, Limit, Unit
from historyd.ratelimit.local import LocalLimiter, Timing, least_duration
from tests.conformance.virtual_time import now_us, run_virtually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Waits:
    urgent = True
    deadline = None

    def __init__(self) -> None:
        self.told: list[Wait] = []

    def waiting(self, wait: Wait) -> None:
        self.told.append(wait)

    def calling(self) -> None:
        raise AssertionError("only the source knows when a call is sent")


def one_call_per(interval_ms: float) -> Budget:
    return Budget((Limit.of(Unit.CALLS, 1, interval_ms),))


def virtual(sleep: Callable[[float], Awaitable[None]]) -> Timing:
    return Timing(clock=now_us, wall=now_us, sleep=sleep)


async def test_on_the_real_clock_nobody_is_served_early() -> None:
    """Three calls 30 ms apart take at least 60 ms, and the wait that is told lies in the host's near future."""
    limiter, waits = LocalLimiter("k", one_call_per(30)), Waits()
    begin, wall_begin = time.monotonic(), time.time_ns() // 1_000
    for _ in range(3):
        await limiter.acquire(Cost(), waits)
    assert time.monotonic() - begin >= 0.060
    assert len(waits.told) >= 2
    assert all(wait.until >= wall_begin for wait in waits.told)


async def test_free_calls_never_wait() -> None:
    """A call that costs nothing under the limits is sent at once, however spent they are."""
    limiter, waits = LocalLimiter("k", one_call_per(3_600_000)), Waits()
    await limiter.acquire(Cost(), waits)
    for _ in range(5):
        await limiter.acquire(Cost(calls=0), waits)
    assert waits.told == []


def test_a_caller_sleeps_once() -> None:
    """One sleep per call that waits, none for those that do not: there is no polling."""
    sleeps: list[float] = []

    async def counting(seconds: float) -> None:
        sleeps.append(seconds)
        await asyncio.sleep(seconds + 0.000_001)

    async def scenario() -> None:
        limiter = LocalLimiter("k", one_call_per(1_000), virtual(counting))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(11):
                tasks.create_task(limiter.acquire(Cost(), Waits()))

    run_virtually(scenario)
    assert len(sleeps) == 10


@pytest.mark.parametrize(("late_s", "next_due"), [(0.004, 2_020_000), (0.3, 2_320_000)])
def test_waking_late_moves_the_booking_only_beyond_the_grace(late_s: float, next_due: int) -> None:
    """Within the grace the booking keeps its time, so no quota is lost; beyond it the booking is made anew."""

    async def scenario() -> None:
        lateness = [late_s]

        async def late_once(seconds: float) -> None:
            await asyncio.sleep(seconds + (lateness.pop() if lateness else 0))

        limiter = LocalLimiter("k", one_call_per(1_000), virtual(late_once))
        for _ in range(3):
            await limiter.acquire(Cost(), Waits())
        assert now_us() == pytest.approx(next_due, abs=3)

    run_virtually(scenario)


def test_a_penalty_while_the_head_sleeps_is_heeded_and_told() -> None:
    """The head wakes to a penalty, books again behind it and says so."""

    async def scenario() -> None:
        limiter, waits = LocalLimiter("k", one_call_per(1_000), virtual(asyncio.sleep)), Waits()
        await limiter.acquire(Cost(), waits)
        head = asyncio.create_task(limiter.acquire(Cost(), waits))
        await asyncio.sleep(0.5)
        limiter.penalise(4)
        await head
        assert now_us() == pytest.approx(4_500_000, abs=2)
        assert [wait.cause for wait in waits.told] == [WaitCause.QUOTA, WaitCause.PENALTY]
        assert waits.told[1].until == pytest.approx(4_500_000, abs=2)

    run_virtually(scenario)


def test_a_greedy_caller_does_not_overtake_the_next_in_line() -> None:
    """The quota has room for two when the head is served: its next call still stands behind the one that waited."""

    async def scenario() -> None:
        limiter = LocalLimiter("k", Budget((Limit.of(Unit.CALLS, 2, 1_000),)), virtual(asyncio.sleep))
        served: list[str] = []

        async def call(*names: str) -> None:
            for name in names:
                await limiter.acquire(Cost(), Waits())
                served.append(name)

        await call("a", "b")
        await asyncio.gather(call("head", "head again"), call("next"))
        assert served == ["a", "b", "head", "next", "head again"]

    run_virtually(scenario)


def test_a_newcomer_does_not_overtake_a_head_that_oversleeps() -> None:
    """The head is due but its task was not run yet, and the quota has room: a newcomer still stands behind it."""

    async def scenario() -> None:
        async def oversleep(seconds: float) -> None:
            await asyncio.sleep(seconds + 0.5)

        limiter = LocalLimiter("k", Budget((Limit.of(Unit.CALLS, 2, 1_000),)), virtual(oversleep))
        served: list[str] = []

        async def call(name: str) -> None:
            await limiter.acquire(Cost(), Waits())
            served.append(name)

        await call("a")
        await call("b")
        head = asyncio.create_task(call("head"))
        await asyncio.sleep(1.2)
        await asyncio.gather(head, call("newcomer"))
        assert served == ["a", "b", "head", "newcomer"]

    run_virtually(scenario)


def test_a_timer_that_fires_early_serves_nobody_early() -> None:
    """The rest of the wait is slept as well, and not told as another wait."""

    async def scenario() -> None:
        async def half(seconds: float) -> None:
            await asyncio.sleep(max(seconds / 2, 0.000_001))

        limiter, waits = LocalLimiter("k", one_call_per(1_000), virtual(half)), Waits()
        await limiter.acquire(Cost(), waits)
        await limiter.acquire(Cost(), waits)
        assert now_us() == pytest.approx(1_010_000, abs=3)
        assert len(waits.told) == 1

    run_virtually(scenario)


async def test_a_pause_of_no_time_is_no_pause() -> None:
    """Retry-After: 0 wins over the configured penalty."""
    limiter, waits = LocalLimiter("k", Budget((), penalty_s=30)), Waits()
    limiter.penalise(0)
    await limiter.acquire(Cost(), waits)
    assert waits.told == []


@pytest.mark.parametrize(
    ("limits", "cost", "calls", "seconds"),
    [
        ([], Cost(), 100, 0.0),
        ([Limit.of(Unit.CALLS, 1200, 60_000)], Cost(), 1200, 0.0),
        ([Limit.of(Unit.CALLS, 1200, 60_000)], Cost(), 1201, 60.3),
        ([Limit.of(Unit.WEIGHT, 1200, 60_000)], Cost(weight=2), 1201, 120.6),
        ([Limit.of(Unit.CALLS, 20, 1_000), Limit.of(Unit.WEIGHT, 100, 60_000)], Cost(weight=10), 41, 241.2),
    ],
)
def test_least_duration_of_whole_bursts(limits: list[Limit], cost: Cost, calls: int, seconds: float) -> None:
    """Bursts of as many calls as fit, one window and margin apart; the slowest limit rules."""
    assert least_duration(limits, cost, calls) == pytest.approx(seconds)
