"""A value that is made once for all who want it."""

from __future__ import annotations

import asyncio

import pytest

from historyd.errors import ShuttingDown
from historyd.sources.shared import Shared


class Workshop:
    """Makes values when it is let, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.made = 0
        self.may = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.made += 1
        await self.may.wait()
        if self.error is not None:
            raise self.error
        return self.made


async def test_all_get_the_one_value() -> None:
    work = Workshop()
    work.may.set()
    async with asyncio.TaskGroup() as tasks:
        shared = Shared(tasks, work)
        assert shared.ready is None
        assert list(await asyncio.gather(shared.get(), shared.get())) == [1, 1]
        assert await shared.get() == shared.ready == 1


async def test_one_who_stops_waiting_harms_no_other() -> None:
    work = Workshop()
    async with asyncio.TaskGroup() as tasks:
        shared = Shared(tasks, work)
        first, second = asyncio.create_task(shared.get()), asyncio.create_task(shared.get())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        work.may.set()
        assert await second == 1
        assert first.cancelled()


async def test_a_failure_is_told_to_all_and_then_tried_again() -> None:
    work = Workshop()
    work.may.set()
    work.error = ValueError("no")
    async with asyncio.TaskGroup() as tasks:
        shared = Shared(tasks, work)
        told = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
        assert [type(error) for error in told] == [ValueError, ValueError]
        work.error = None
        assert await shared.get() == 2


async def test_a_forgotten_value_is_made_anew_but_not_while_it_is_being_made() -> None:
    work = Workshop()
    async with asyncio.TaskGroup() as tasks:
        shared = Shared(tasks, work)
        waiting = asyncio.create_task(shared.get())
        await asyncio.sleep(0)
        shared.forget()
        work.may.set()
        assert await waiting == await shared.get() == 1
        shared.forget()
        assert await shared.get() == 2


async def test_those_who_wait_when_it_is_stopped_are_told_so() -> None:
    async with asyncio.TaskGroup() as tasks:
        shared = Shared(tasks, Workshop())
        waiting = asyncio.create_task(shared.get())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        shared.cancel()
        with pytest.raises(ShuttingDown):
            await waiting
