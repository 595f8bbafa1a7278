"""What every limiter promises, whatever its scope: one suite, run on each, in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from historyd.errors import RateLimited
from historyd.model.wait import Wait, WaitCause
from historyd.ratelimit.base import Cost
from tests.conformance.limiter_rig import ONE_CALL, SECOND, WALL_AT_START, Waits, options, send_many, settle, timing
from tests.conformance.sends import Sends
from tests.conformance.virtual_time import now_us, run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable

    from historyd.ratelimit.base import Limiter


@pytest.mark.parametrize(
    ("given", "most", "window", "per_second"),
    [
        ({"tokens_per_interval": 20, "interval_ms": 1_000}, 20, SECOND, 20),
        ({"tokens_per_interval": 20, "interval_ms": 1_000, "burst": 5}, 5, SECOND // 4, 20),
        ({"tokens_per_interval": 20, "interval_ms": 1_000, "burst_tokens": 500}, 20, SECOND, 20),
        ({"tokens_per_interval": 20}, 1, SECOND // 20, 20),
        ({"tokens_per_interval": 2.5}, 1, 400_000, 2.5),
        ({"min_interval_s": 0.2}, 1, 200_000, 5),
        ({"limits": [{"calls": 3, "interval_ms": 100}, {"calls": 20, "interval_ms": 1_000}]}, 20, SECOND, 20),
    ],
)
def test_saturated_callers_get_the_whole_quota_and_no_window_more(
    make_anywhere: Callable[..., list[Limiter]], given: dict[str, object], most: int, window: int, per_second: float
) -> None:
    """Sixteen greedy callers over three holders of the key fill the windows, and never overfill one."""

    async def scenario() -> None:
        holders = make_anywhere(options(**given), timing(), 3)
        sends = Sends()
        async with asyncio.TaskGroup() as tasks:
            for number in range(16):
                tasks.create_task(send_many(holders[number % 3], 25, sends))
        assert sends.fullest(window) == most
        assert 0.98 * per_second <= 400 / (sends.times[-1] / SECOND) <= 1.1 * per_second

    run_virtually(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_late_wakes_and_late_sends_overfill_no_window(make_anywhere: Callable[..., list[Limiter]], seed: int) -> None:
    """A loop that stalls now and then for a third of a second, and sends as late as the margin allows."""

    async def scenario() -> None:
        chance = random.Random(seed)

        async def late_sleep(seconds: float) -> None:
            await asyncio.sleep(seconds + chance.choice([0, 0.001, 0.004, 0.006, 0.3]) * chance.random())

        holders = make_anywhere(options(tokens_per_interval=20, interval_ms=1_000), timing(late_sleep), 3)
        sends = Sends()

        async def caller(limiter: Limiter) -> None:
            for _ in range(20):
                await limiter.acquire(ONE_CALL, Waits())
                await asyncio.sleep(chance.random() * 0.005)  # half of the margin of a second's window
                sends.add(now_us())

        async with asyncio.TaskGroup() as tasks:
            for number in range(12):
                tasks.create_task(caller(holders[number % 3]))
        assert len(sends.log) == 240
        assert 18 <= sends.fullest(SECOND) <= 20

    run_virtually(scenario)


def test_weights_and_calls_are_limited_together(make: Callable[..., list[Limiter]]) -> None:
    """A call is booked under both limits or under none: neither window is ever overfull, one is always full."""

    async def scenario() -> None:
        both = options(limits=[{"calls": 20, "interval_ms": 1_000}, {"weight": 120, "interval_ms": 6_000}])
        (limiter,) = make(both, timing(), 1)
        chance = random.Random(7)
        calls, weights = Sends(), Sends()

        async def caller() -> None:
            for _ in range(30):
                weight = chance.choice([1, 2, 5])
                await limiter.acquire(Cost(weight=weight), Waits())
                calls.add(now_us())
                weights.add(now_us(), weight)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(caller())
        assert calls.fullest(SECOND) == 20
        assert 116 <= weights.fullest(6 * SECOND) <= 120
        used = sum(cost for _, cost, _ in weights.log) / (weights.times[-1] / (6 * SECOND) * 120)
        assert used >= 0.95

    run_virtually(scenario)


def test_default_budget_is_ccxts_own(make: Callable[..., list[Limiter]]) -> None:
    """With no option given, a call of 20 ms of budget is followed by a pause of 20 ms, one of 3 s by one of 3 s."""

    async def scenario() -> None:
        (limiter,) = make(options(), timing(), 1)
        sends = Sends()
        for budget_ms in (20, 20, 3_000, 20):
            await limiter.acquire(Cost(budget_ms=budget_ms), Waits())
            sends.add(now_us())
        gaps = [after - before for before, after in zip(sends.times, sends.times[1:], strict=False)]
        assert gaps == pytest.approx([20_500, 20_500, 3_000_500], abs=2)

    run_virtually(scenario)


def test_cost_above_the_limit_fills_as_many_windows(make: Callable[..., list[Limiter]]) -> None:
    """A call of weight 30 under 20 a second goes at once on an empty quota, and the next one 1.5 windows later."""

    async def scenario() -> None:
        (limiter,) = make(options(limits=[{"weight": 20, "interval_ms": 1_000}]), timing(), 1)
        sends = Sends()
        for weight in (30, 20, 30):
            await limiter.acquire(Cost(weight=weight), Waits())
            sends.add(now_us())
        assert sends.times == pytest.approx([0, 1_510_000, 2_520_000], abs=2)

    run_virtually(scenario)


def test_callers_are_served_in_the_order_they_came(make: Callable[..., list[Limiter]]) -> None:
    """First come, first served, through a penalty and through callers of unlike cost."""

    async def scenario() -> None:
        holders = make(options(limits=[{"weight": 2, "interval_ms": 100}]), timing(), 3)
        sends = Sends()
        async with asyncio.TaskGroup() as tasks:
            for number in range(30):
                cost = Cost(weight=1 + number % 2)
                tasks.create_task(send_many(holders[number % 3], 1, sends, cost, str(number)))
            await asyncio.sleep(0.25)
            holders[0].penalise(1)
        assert sends.callers == [str(number) for number in range(30)]

    run_virtually(scenario)


def test_nothing_is_sent_inside_a_penalty(make_anywhere: Callable[..., list[Limiter]]) -> None:
    """One holder hears of the penalty, all stop; afterwards the quota is used up and no window overfull."""

    async def scenario() -> None:
        holders = make_anywhere(options(tokens_per_interval=20, interval_ms=1_000), timing(), 3)
        sends = Sends()
        async with asyncio.TaskGroup() as tasks:
            for number in range(9):
                tasks.create_task(send_many(holders[number % 3], 20, sends))
            await asyncio.sleep(2.5)
            holders[1].penalise(3)
        inside = [at for at in sends.times if 2.5 * SECOND <= at < 5.5 * SECOND]
        after = [at for at in sends.times if 5.5 * SECOND <= at < 6.5 * SECOND]
        assert inside == []
        assert len(after) == 20
        assert after[0] == pytest.approx(5.5 * SECOND, abs=2)
        assert sends.fullest(SECOND) == 20

    run_virtually(scenario)


def test_the_longest_penalty_counts(make_anywhere: Callable[..., list[Limiter]]) -> None:
    """A shorter pause asked for later does not end a longer one."""

    async def scenario() -> None:
        one, other = make_anywhere(options(), timing(), 2)
        one.penalise(3)
        other.penalise(1)
        await one.acquire(ONE_CALL, Waits())
        assert now_us() == pytest.approx(3 * SECOND, abs=2)

    run_virtually(scenario)


@pytest.mark.parametrize(("given", "pause_s"), [({}, 1.0), ({"penalty_backoff_ms": 250}, 0.25)])
def test_penalty_without_a_time_is_the_configured_one(
    make_anywhere: Callable[..., list[Limiter]], given: dict[str, object], pause_s: float
) -> None:
    """A 429 that names no time pauses all holders for `penalty_backoff_ms`, a second if that is not given."""

    async def scenario() -> None:
        one, other = make_anywhere(options(**given), timing(), 2)
        one.penalise(None)
        await other.acquire(ONE_CALL, Waits())
        assert now_us() == pytest.approx(pause_s * SECOND, abs=2)

    run_virtually(scenario)


def test_a_ban_is_told_rather_than_waited_for(make_anywhere: Callable[..., list[Limiter]]) -> None:
    """During a pause of more than a minute callers get RateLimited with the seconds left, those in line too."""

    async def scenario() -> None:
        one, other = make_anywhere(options(min_interval_s=1), timing(), 2)
        await one.acquire(ONE_CALL, Waits())
        in_line = asyncio.create_task(one.acquire(ONE_CALL, Waits()))
        await asyncio.sleep(0.5)
        other.penalise(600)
        with pytest.raises(RateLimited) as refused:
            await other.acquire(ONE_CALL, Waits())
        assert refused.value.retry_after_s == pytest.approx(600)
        with pytest.raises(RateLimited):
            await in_line
        assert now_us() < 2 * SECOND
        await asyncio.sleep(600)
        await other.acquire(ONE_CALL, Waits())

    run_virtually(scenario)


def test_observer_is_told_of_waits_only(make: Callable[..., list[Limiter]]) -> None:
    """A call that goes at once tells nothing; one that waits tells cause, host time and key."""

    async def scenario() -> None:
        (limiter,) = make(options(min_interval_s=1), timing(), 1)
        none, quota, penalty = Waits(), Waits(), Waits()
        await limiter.acquire(ONE_CALL, none)
        await limiter.acquire(ONE_CALL, quota)
        limiter.penalise(5)
        await limiter.acquire(ONE_CALL, penalty)
        assert none.told == []
        assert quota.told == [Wait(WaitCause.QUOTA, WALL_AT_START + 1_010_000, "ccxt:binance")]
        assert penalty.told == [Wait(WaitCause.PENALTY, WALL_AT_START + 6_010_000, "ccxt:binance")]

    run_virtually(scenario)


def test_those_in_line_are_told_about_how_long(make: Callable[..., list[Limiter]]) -> None:
    """The fifth in line hears at once when its turn will be, and it is."""

    async def scenario() -> None:
        (limiter,) = make(options(min_interval_s=1), timing(), 1)
        waits = [Waits() for _ in range(6)]
        async with asyncio.TaskGroup() as tasks:
            for observer in waits:
                tasks.create_task(limiter.acquire(ONE_CALL, observer))
        assert waits[5].told[0].until - WALL_AT_START == pytest.approx(5 * SECOND, rel=0.02)
        assert now_us() == pytest.approx(5 * SECOND, rel=0.02)

    run_virtually(scenario)


def test_cancelled_waiters_leave_nothing_behind(make: Callable[..., list[Limiter]]) -> None:
    """Of twenty in line all but the last are cancelled, the head too: the last is served as if it were alone."""

    async def scenario() -> None:
        (limiter,) = make(options(min_interval_s=1), timing(), 1)
        await limiter.acquire(ONE_CALL, Waits())
        waiting = [asyncio.create_task(limiter.acquire(ONE_CALL, Waits())) for _ in range(20)]
        await settle()
        for task in waiting[:-1]:
            task.cancel()
        await asyncio.gather(*waiting[:-1], return_exceptions=True)
        assert all(task.cancelled() for task in waiting[:-1])
        await waiting[-1]
        assert now_us() == pytest.approx(1_010_000, abs=2)
        await limiter.acquire(ONE_CALL, Waits())
        assert now_us() == pytest.approx(2_020_000, abs=3)

    run_virtually(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_random_cancels_waste_no_quota(make: Callable[..., list[Limiter]], seed: int) -> None:
    """Half of two hundred callers are cancelled at random: the rest are served at the full rate, never above it."""

    async def scenario() -> None:
        chance = random.Random(seed)
        holders = make(options(tokens_per_interval=10, interval_ms=1_000), timing(), 3)
        sends = Sends()
        tasks = [asyncio.create_task(send_many(holders[i % 3], 1, sends)) for i in range(200)]
        for task in chance.sample(tasks, 100):
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        served = sum(result is None for result in ended)
        assert served == len(sends.log) >= 100
        assert sends.fullest(SECOND) == 10
        assert sends.times[-1] <= (served - 1) // 10 * 1_010_000 + 1_000

    run_virtually(scenario)


def test_slots_bound_the_calls_under_way(make: Callable[..., list[Limiter]]) -> None:
    """No more than `max_concurrency` calls are under way, and so many are."""

    async def scenario() -> None:
        holders = make(options(max_concurrency=3), timing(), 2)
        under_way = most = 0

        async def call(limiter: Limiter) -> None:
            nonlocal under_way, most
            async with limiter.slot(Waits()):
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(0.01)
                under_way -= 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(call(holders[number % 2]))
        assert most == 3

    run_virtually(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_a_storm_of_cancels_loses_no_slot(make: Callable[..., list[Limiter]], seed: int) -> None:
    """Whoever is cancelled, waiting for a slot or holding one, all slots are free in the end."""

    async def scenario() -> None:
        chance = random.Random(seed)
        (limiter,) = make(options(max_concurrency=3), timing(), 1)

        async def call() -> None:
            async with limiter.slot(Waits()):
                await asyncio.sleep(chance.random() * 0.01)

        tasks = [asyncio.create_task(call()) for _ in range(100)]
        for task in chance.sample(tasks, 60):
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with limiter.slot(Waits()), limiter.slot(Waits()), limiter.slot(Waits()):
            fourth = asyncio.create_task(call())
            await settle()
            assert not fourth.done()
        await fourth

    run_virtually(scenario)


@pytest.mark.parametrize(
    ("given", "cost"),
    [
        ({"tokens_per_interval": 20, "interval_ms": 1_000}, Cost()),
        ({"tokens_per_interval": 20, "interval_ms": 1_000, "burst": 5}, Cost()),
        ({"tokens_per_interval": 7}, Cost()),
        ({"min_interval_ms": 130}, Cost()),
        ({"limits": [{"weight": 20, "interval_ms": 1_000}]}, Cost(weight=3)),
        ({"limits": [{"weight": 20, "interval_ms": 1_000}]}, Cost(weight=50)),
        ({}, Cost(budget_ms=34)),
    ],
)
@pytest.mark.parametrize("calls", [0, 1, 2, 20, 21, 60])
def test_least_duration_is_what_it_takes(
    make: Callable[..., list[Limiter]], given: dict[str, object], cost: Cost, calls: int
) -> None:
    """From an unused quota, one greedy caller needs exactly the least time."""

    async def scenario() -> None:
        (limiter,) = make(options(**given), timing(), 1)
        await send_many(limiter, calls, Sends(), cost)
        assert limiter.least_duration(cost, calls) == pytest.approx(now_us() / SECOND, abs=0.001)

    run_virtually(scenario)
