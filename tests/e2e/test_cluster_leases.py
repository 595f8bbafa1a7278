"""Server processes that share a QuestDB and a Redis: each page is fetched by one of them, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import TYPE_CHECKING, Any

import pytest

from historyd.demo.candles import RandomWalk
from tests.e2e.lease_lab import SERIES, Hold, cluster, milliseconds, pages
from tests.e2e.whole import rows_of
from tests.source_lab import floats

if TYPE_CHECKING:
    from pathlib import Path

    from markethistory.aio import AsyncClient
    from tests.questdb_server import QuestDb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE_S = 120
"""For servers to end what takes them TTL and a fetch where they have the machine to themselves."""


def wanted(first: int, count: int) -> list[tuple[Any, ...]]:
    start, end = (int(milliseconds(moment)) for moment in pages(first, count))
    return floats(RandomWalk().bars("BTCUSDT", "1m", start, end - 60_000, 10_000))


async def rows_are_exact(client: AsyncClient, first: int, count: int) -> None:
    table = await client.read(SERIES, *pages(first, count), ensure=False, require_complete=True)
    assert rows_of(table) == wanted(first, count)


@pytest.mark.parametrize("count", [2, 4, 16])
async def test_servers_asked_at_once_fetch_each_page_once(questdb: QuestDb, tmp_path: Path, count: int) -> None:
    """Half of them are asked for the same range, the others for ranges that overlap it and each other."""
    asked = [(0, 12) if number % 2 == 0 else (number % 8, 12) for number in range(count)]
    async with cluster(tmp_path, questdb, count) as c:
        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(
                *(client.ensure(SERIES, *pages(*range_)) for client, range_ in zip(c.clients, asked, strict=True))
            )
        assert all(not result.uncovered for result in results)
        assert set(c.fetches.values()) == {1}, c.fetches
        assert len(c.fetches) == max(first + many for first, many in asked)
        for client, range_ in zip(c.clients, asked, strict=True):
            await rows_are_exact(client, *range_)


async def test_a_holder_that_is_killed_costs_one_fetch_more(questdb: QuestDb, tmp_path: Path) -> None:
    """Killed while its call is at the exchange: that page is fetched again, once, by one of the others."""
    hold = Hold(pages(0, 1)[0])  # no page before it is being committed
    async with cluster(tmp_path, questdb, 3, hold) as c, asyncio.TaskGroup() as tasks:
        unanswered = tasks.create_task(c.clients[0].ensure(SERIES, *pages(0, 6)))
        await hold.came.wait()
        others = [tasks.create_task(client.ensure(SERIES, *pages(0, 6))) for client in c.clients[1:]]
        await asyncio.sleep(0.5)
        c.servers[0].process.send_signal(SIGKILL)
        hold.let_go.set()
        unanswered.cancel()
        async with asyncio.timeout(PATIENCE_S):
            assert [(await other).uncovered for other in others] == [(), ()]
        assert c.fetches == expected_fetches(6, twice=hold)
        for client in c.clients[1:]:
            await rows_are_exact(client, 0, 6)


async def test_a_holder_that_is_stopped_beyond_its_lease_costs_one_fetch_more(questdb: QuestDb, tmp_path: Path) -> None:
    """When it goes on, what it was told is committed once more, and it makes no call for what others have done."""
    hold = Hold(pages(0, 1)[0])  # no page before it is being committed
    async with cluster(tmp_path, questdb, 3, hold) as c, asyncio.TaskGroup() as tasks:
        stopped = tasks.create_task(c.clients[0].ensure(SERIES, *pages(0, 6)))
        await hold.came.wait()
        c.servers[0].process.send_signal(SIGSTOP)
        hold.let_go.set()
        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*(client.ensure(SERIES, *pages(0, 6)) for client in c.clients[1:]))
            assert [result.uncovered for result in results] == [(), ()]
            c.servers[0].process.send_signal(SIGCONT)
            assert (await stopped).uncovered == ()
        assert c.fetches == expected_fetches(6, twice=hold)
        for client in c.clients:
            await rows_are_exact(client, 0, 6)


def expected_fetches(count: int, *, twice: Hold) -> Counter[str]:
    each = Counter(milliseconds(pages(number, 1)[0]) for number in range(count))
    each[milliseconds(twice.page)] += 1
    return each
