"""The line in front of a quota: order, lanes, and callers that go away."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from historyd.ratelimit.line import URGENT_RUN, Line

if TYPE_CHECKING:
    from historyd.model.wait import Wait


@dataclass
class Caller:
    name: str
    urgent: bool
    deadline: int | None = None

    def waiting(self, wait: Wait) -> None:
        pass

    def calling(self) -> None:
        pass


async def serve(line: Line, caller: Caller, served: list[str]) -> None:
    async with line.place(caller):
        served.append(caller.name)


async def line_up(line: Line, callers: list[Caller], served: list[str]) -> list[asyncio.Task[None]]:
    """Lets callers stand in line, in this order, behind a place that the test holds."""
    tasks = [asyncio.create_task(serve(line, caller, served)) for caller in callers]
    await asyncio.sleep(0)
    return tasks


async def test_urgent_callers_go_first_each_lane_in_its_order() -> None:
    line, served = Line(1), list[str]()
    await line.enter(Caller("holder", urgent=False))
    callers = [Caller("bulk 1", False), Caller("urgent 1", True), Caller("bulk 2", False), Caller("urgent 2", True)]
    tasks = await line_up(line, callers, served)
    line.leave()
    await asyncio.gather(*tasks)
    assert served == ["urgent 1", "urgent 2", "bulk 1", "bulk 2"]


async def test_a_stream_of_urgent_callers_does_not_starve_the_others() -> None:
    line, served = Line(1), list[str]()
    await line.enter(Caller("holder", urgent=False))
    callers = [Caller("bulk", False), *(Caller(f"urgent {number}", True) for number in range(20))]
    tasks = await line_up(line, callers, served)
    line.leave()
    await asyncio.gather(*tasks)
    assert served.index("bulk") == URGENT_RUN


async def test_who_becomes_urgent_in_line_moves_up() -> None:
    line, served = Line(1), list[str]()
    await line.enter(Caller("holder", urgent=False))
    promoted = Caller("promoted", False)
    tasks = await line_up(line, [Caller("first", False), promoted], served)
    promoted.urgent = True
    line.leave()
    await asyncio.gather(*tasks)
    assert served == ["promoted", "first"]


async def test_a_newcomer_does_not_slip_in_where_a_place_was_just_left() -> None:
    line, served = Line(1), list[str]()
    await line.enter(Caller("holder", urgent=False))
    tasks = await line_up(line, [Caller("waiting", False)], served)
    line.leave()
    assert not line.is_open
    await serve(line, Caller("newcomer", True), served)
    await asyncio.gather(*tasks)
    assert served == ["waiting", "newcomer"]


async def test_a_place_given_to_one_who_is_cancelled_goes_on_to_the_next() -> None:
    line, served = Line(1), list[str]()
    await line.enter(Caller("holder", urgent=False))
    given, after = await line_up(line, [Caller("given", False), Caller("after", False)], served)
    line.leave()
    given.cancel()
    await after
    assert served == ["after"]
    assert line.is_open


@pytest.mark.parametrize("seed", range(10))
async def test_a_storm_of_cancels_loses_no_place(seed: int) -> None:
    chance = random.Random(seed)
    line, busy = Line(3), 0

    async def call(caller: Caller) -> None:
        nonlocal busy
        async with line.place(caller):
            busy += 1
            assert busy <= 3
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                busy -= 1

    tasks = [asyncio.create_task(call(Caller(str(number), chance.random() < 0.5))) for number in range(100)]
    for task in chance.sample(tasks, 60):
        await asyncio.sleep(0)
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [error for error in ended if isinstance(error, Exception)]
    for number in range(3):
        assert line.is_open
        await line.enter(Caller(str(number), urgent=True))
    assert not line.is_open
