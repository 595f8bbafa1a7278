"""A greedy process: several tasks that call an exchange as often as one of the contenders lets them.

Run as `python -m benchmarks.rig.quota_worker JSON`, JSON being a `Job`. Prints `ready`, waits for a line, then calls
until its input ends; prints what it did as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio.connection import AbstractConnection

from benchmarks.rig.quota_contenders import CONTENDERS
from historyd.errors import QuotaUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S: Final = 2.0


@dataclass(frozen=True)
class Job:
    """What a worker does.

    Attributes:
        name: what the exchange knows it by.
        contender: who hands out the quota, see CONTENDERS.
        dsn: the Redis.
        port: the exchange's.
        options: the quota, as `rate_limiter` options.
        tasks: callers in this process.
        weights: a call's weight is drawn from these.
        call_s: how long a call takes.
    """

    name: str
    contender: str
    dsn: str
    port: int
    options: dict[str, Any]
    tasks: int = 4
    weights: tuple[int, ...] = (1,)
    call_s: float = 0.02

    def text(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Tally:
    grants: int = 0
    refused: int = 0
    round_trips: int = 0


def main() -> None:
    given = json.loads(sys.argv[1])
    asyncio.run(_work(Job(**given)))


async def _work(job: Job) -> None:
    tally = Tally()
    _count_round_trips(tally)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        outlet.connect(("127.0.0.1", job.port))
        async with CONTENDERS[job.contender](job.dsn, job.options) as acquire:
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            chance = random.Random(job.name)
            callers = [asyncio.create_task(_call(job, acquire, outlet, chance, tally)) for _ in range(job.tasks)]
            await asyncio.to_thread(sys.stdin.read)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers, timeout=_PATIENCE_S)
            print(json.dumps(asdict(tally)), flush=True)
            if any(not caller.done() for caller in callers):
                os._exit(0)  # redis-py may swallow a cancel; a contender that polls would go on for ever
    for caller in callers:
        if not caller.cancelled():
            caller.result()


async def _call(
    job: Job, acquire: Callable[[int], Any], outlet: socket.socket, chance: random.Random, tally: Tally
) -> None:
    while True:
        weight = chance.choice(job.weights)
        try:
            await acquire(weight)
        except QuotaUnavailable:
            tally.refused += 1
            await asyncio.sleep(0.05)
            continue
        outlet.send(f"{job.name} {weight}".encode())
        tally.grants += 1
        await asyncio.sleep(job.call_s)


def _count_round_trips(tally: Tally) -> None:
    plain = AbstractConnection.send_packed_command

    async def counted(self: AbstractConnection, *args: Any, **options: Any) -> None:
        tally.round_trips += 1
        await plain(self, *args, **options)

    AbstractConnection.send_packed_command = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
