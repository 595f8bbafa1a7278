"""One job per key, whoever comes and goes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from historyd.engine.singleflight import Caller, Flight, SingleFlight
from historyd.errors import ExchangeUnavailable, ShuttingDown, WaitTooLong
from historyd.leases.base import LeaseLost
from historyd.model.wait import Wait, WaitCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Job = "Callable[[Flight[int]], Awaitable[int]]"


class Scene:
    """Flights, and a job that says it calls and is then held until `release`."""

    def __init__(self, flights: SingleFlight[int]) -> None:
        self.flights = flights
        self.started = 0
        self.finished = 0
        self.release = asyncio.Event()
        self.reached = asyncio.Event()

    async def call(self, flight: Flight[int]) -> int:
        self.started += 1
        flight.calling()
        self.reached.set()
        await self.release.wait()
        self.finished += 1
        return 7

    async def queue(self, flight: Flight[int]) -> int:
        self.started += 1
        flight.waiting(Wait(WaitCause.QUOTA, 0, "rl:binance"))
        self.reached.set()
        await self.release.wait()
        self.finished += 1
        return 7


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with asyncio.TaskGroup() as tasks:
        scene = Scene(SingleFlight(tasks))
        yield scene
        scene.release.set()
    assert len(scene.flights) == 0


async def test_all_who_join_get_the_one_result(scene: Scene) -> None:
    joined = [scene.flights.join("page", scene.call) for _ in range(5)]
    scene.release.set()
    for flight in joined:
        await flight.landed.wait()
        assert flight.outcome() == 7
        scene.flights.leave(flight)
    assert scene.started == 1


async def test_another_key_is_another_job(scene: Scene) -> None:
    scene.release.set()
    flights = [scene.flights.join(key, scene.call) for key in ("one", "two")]
    for flight in flights:
        await flight.landed.wait()
        scene.flights.leave(flight)
    assert scene.started == 2


async def test_an_error_reaches_every_waiter(scene: Scene) -> None:
    async def fail(_: Flight[int]) -> int:
        raise ExchangeUnavailable("away")

    flights = [scene.flights.join("page", fail) for _ in range(2)]
    for flight in flights:
        await flight.landed.wait()
        with pytest.raises(ExchangeUnavailable):
            flight.outcome()
        scene.flights.leave(flight)


async def test_one_who_leaves_harms_nobody(scene: Scene) -> None:
    stays = scene.flights.join("page", scene.queue)
    leaves = scene.flights.join("page", scene.queue)
    await scene.reached.wait()
    scene.flights.leave(leaves)
    scene.release.set()
    await stays.landed.wait()
    assert stays.outcome() == 7
    scene.flights.leave(stays)


async def test_a_job_that_only_waits_is_cancelled_with_its_last_waiter(scene: Scene) -> None:
    flight = scene.flights.join("page", scene.queue)
    await scene.reached.wait()
    scene.flights.leave(flight)
    await flight.landed.wait()
    assert scene.finished == 0


async def test_a_job_on_the_wire_finishes_without_waiters(scene: Scene) -> None:
    flight = scene.flights.join("page", scene.call)
    await scene.reached.wait()
    scene.flights.leave(flight)
    assert not flight.landed.is_set()
    scene.release.set()
    await flight.landed.wait()
    assert scene.finished == 1


async def test_a_newcomer_joins_the_abandoned_job_on_the_wire(scene: Scene) -> None:
    scene.flights.leave(scene.flights.join("page", scene.call))  # cancelled before it began
    abandoned = scene.flights.join("page", scene.call)
    await scene.reached.wait()
    scene.flights.leave(abandoned)
    newcomer = scene.flights.join("page", scene.call)
    assert newcomer is abandoned
    scene.release.set()
    await newcomer.landed.wait()
    assert newcomer.outcome() == 7
    scene.flights.leave(newcomer)
    assert scene.started == 1


async def test_a_cancelled_job_does_not_catch_newcomers(scene: Scene) -> None:
    """The job is being cancelled, but a caller that comes in the same moment gets one of its own."""
    first = scene.flights.join("page", scene.queue)
    await scene.reached.wait()
    scene.flights.leave(first)
    second = scene.flights.join("page", scene.queue)
    assert second is not first
    scene.release.set()
    await second.landed.wait()
    assert second.outcome() == 7
    scene.flights.leave(second)


async def test_after_close_nothing_begins_and_waiters_are_told(scene: Scene) -> None:
    waiting = scene.flights.join("waits", scene.queue)
    await scene.reached.wait()
    scene.flights.close()
    await waiting.landed.wait()
    with pytest.raises(ShuttingDown):
        waiting.outcome()
    scene.flights.leave(waiting)
    with pytest.raises(ShuttingDown):
        scene.flights.join("page", scene.call)


async def test_close_before_a_job_began_still_wakes_its_waiters(scene: Scene) -> None:
    flight = scene.flights.join("page", scene.call)
    scene.flights.close()
    await flight.landed.wait()
    with pytest.raises(ShuttingDown):
        flight.outcome()
    scene.flights.leave(flight)


async def test_abandoned_jobs_end_even_with_a_call_on_the_wire(scene: Scene) -> None:
    flight = scene.flights.join("page", scene.call)
    await scene.reached.wait()
    scene.flights.abandon()
    await flight.landed.wait()
    with pytest.raises(ShuttingDown):
        flight.outcome()
    scene.flights.leave(flight)
    assert scene.finished == 0


async def test_a_flight_tells_what_its_job_does(scene: Scene) -> None:
    def waits_for(flight: Flight[int]) -> str | None:
        return flight.wait.detail if flight.wait is not None else None

    flight = scene.flights.join("page", scene.queue)
    await scene.reached.wait()
    assert waits_for(flight) == "rl:binance"
    flight.calling()
    assert waits_for(flight) is None
    assert flight.call_count == 1
    scene.release.set()
    await flight.landed.wait()
    scene.flights.leave(flight)


async def test_a_job_is_as_patient_as_the_most_patient_of_its_callers(scene: Scene) -> None:
    """A deadline counts only while all who want the result have one; it is the latest then."""
    hasty, calm, patient = Caller(deadline=5), Caller(deadline=9), Caller()
    flight = scene.flights.join("page", scene.queue, hasty)
    seen = [flight.deadline]
    for caller in (calm, patient):
        scene.flights.join("page", scene.queue, caller)
        seen.append(flight.deadline)
    for caller in (patient, calm, hasty):
        scene.flights.leave(flight, caller)
        seen.append(flight.deadline)
    assert seen == [5, 9, None, 9, 5, None]


async def test_a_job_is_urgent_if_one_of_its_callers_is_or_one_of_another_server(scene: Scene) -> None:
    bulk, urgent = Caller(urgent=False), Caller()
    flight = scene.flights.join("page", scene.queue, bulk)
    seen = [flight.urgent]
    scene.flights.join("page", scene.queue, urgent)
    seen.append(flight.urgent)
    scene.flights.leave(flight, urgent)
    seen.append(flight.urgent)
    flight.promote()
    seen.append(flight.urgent)
    scene.flights.leave(flight, bulk)
    assert seen == [False, True, False, True]


async def test_no_call_is_sent_for_a_page_whose_lease_is_lost() -> None:
    flight: Flight[int] = Flight("page")
    flight.calling()
    flight.lease(lambda: False)
    with pytest.raises(LeaseLost):
        flight.calling()
    assert flight.call_count == 1
    flight.lease(lambda: True)
    flight.calling()


async def test_one_who_comes_just_as_a_job_fails_begins_another(scene: Scene) -> None:
    """The job has ended, but those who wait were not told yet: its error is theirs, not the newcomer's."""

    later: list[Flight[int]] = []

    async def refused(_: Flight[int]) -> int:
        # Runs when this job has ended, and before what is called then.
        asyncio.get_running_loop().call_soon(lambda: later.append(scene.flights.join("page", scene.call)))
        raise WaitTooLong("for those who came in time")

    failed = scene.flights.join("page", refused)
    await failed.landed.wait()
    assert later[0] is not failed
    scene.flights.leave(failed)
    scene.release.set()
    await later[0].landed.wait()
    assert later[0].outcome() == 7
    scene.flights.leave(later[0])
