"""`takeover`: a server that holds a page's lease is killed or stopped; how long until the others have done the page.

Real servers that share a QuestDB and a Redis, 2, 4 and 16 of them, all asked for the same page, whose first answer the
exchange keeps back. Told is the slowest of all callers and rounds; the bound is the lease's time to live and half a
second, besides the fetch.
"""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rig.pairing import say
from historyd.leases.redis import TTL_S
from tests.e2e.lease_lab import SERIES, Hold, cluster, pages
from tests.questdb_server import running_questdb

if TYPE_CHECKING:
    from markethistory.aio import AsyncClient
    from tests.questdb_server import QuestDb

FAULTS = (signal.SIGKILL, signal.SIGSTOP)
_GRACE_S = 0.5
_RENEWAL_S = TTL_S / 3


def run(counts: tuple[int, ...] = (2, 4, 16), rounds: int = 3) -> dict[str, Any]:
    """Seconds from the fault until the last of the others is done, for so many servers."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, running_questdb(Path(folder)) as questdb:
        for count in counts:
            for fault in FAULTS:
                taken = []
                for number in range(rounds):
                    say(f"{count} servers, {fault.name}: round {number + 1} of {rounds}")
                    taken.append(asyncio.run(_round(questdb, count, fault)))
                found[f"slowest_s_{count}_{fault.name.lower()}"] = round(max(taken), 3)
    return {**found, "bound_s": TTL_S + _GRACE_S}


async def _round(questdb: QuestDb, count: int, fault: signal.Signals) -> float:
    """Seconds that the others take from the fault on."""
    hold = Hold(pages(1, 1)[0])
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lab = await stack.enter_async_context(cluster(folder, questdb, count, hold))
        await asyncio.gather(*(_page(client, 0) for client in lab.clients))  # they know the market, the series is open
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        held = tasks.create_task(_page(lab.clients[0], 1))
        await hold.came.wait()
        others = [tasks.create_task(_page(client, 1)) for client in lab.clients[1:]]
        await asyncio.sleep(random.uniform(0.5, 0.5 + _RENEWAL_S))  # any moment between two renewals
        lab.servers[0].process.send_signal(fault)
        began = time.perf_counter()
        held.cancel()
        hold.let_go.set()
        await asyncio.gather(*others)
        takeover_s = time.perf_counter() - began
        if fault == signal.SIGSTOP:  # it has to end by itself
            lab.servers[0].process.send_signal(signal.SIGCONT)
        return takeover_s


async def _page(client: AsyncClient, number: int) -> None:
    result = await client.ensure(SERIES, *pages(number, 1))
    if result.uncovered:
        raise RuntimeError(f"page {number} is not covered: {result.uncovered}")
