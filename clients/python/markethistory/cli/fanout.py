"""Several series at once over one connection, at most so many at a time; one that fails stops no other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from markethistory.cli.running import ExitCode, advice, complain, exit_code
from markethistory.cli.servers import open_aio_client
from markethistory.errors import MarketHistoryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from markethistory import aio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What became of one series: a value, or an error."""

    series: str
    value: T | None = None
    error: MarketHistoryError | None = None


async def fan_out(
    server: str, series: Sequence[str], jobs: int, work: Callable[[aio.AsyncClient, str], Awaitable[T]]
) -> list[Outcome[T]]:
    """Runs `work` for each series, in the order given as far as `jobs` allows; outcomes are in that order."""
    gate = asyncio.Semaphore(jobs)

    async def one(name: str) -> Outcome[T]:
        async with gate:
            try:
                return Outcome(name, await work(history, name))
            except MarketHistoryError as error:
                return Outcome(name, error=error)

    async with open_aio_client(server) as history, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(name)) for name in dict.fromkeys(series)]
    return [task.result() for task in tasks]


def tell_errors(server: str, outcomes: Iterable[Outcome[T]]) -> ExitCode:
    """Complains of the series that failed, each in a line, and how many they are; the exit code of the first."""
    told = list(outcomes)
    failed = [(outcome.series, outcome.error) for outcome in told if outcome.error is not None]
    for name, error in failed:
        complain(f"{name}: {advice(error, server)}")
    if failed and len(told) > 1:
        complain(f"{len(failed)} of {len(told)} series failed")
    return exit_code(failed[0][1]) if failed else ExitCode.OK
