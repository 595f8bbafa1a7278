"""Limiters of every scope on virtual time, for the suites that each must pass."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from historyd.ratelimit.base import Cost
from historyd.ratelimit.cluster import ClusterLimiter
from historyd.ratelimit.errands import Errands
from historyd.ratelimit.local import LocalLimiter, Timing
from historyd.ratelimit.options import RateLimiterOptions
from historyd.ratelimit.process import ProcessLimiters
from tests.conformance.virtual_time import now_us
from tests.virtual_redis import VirtualLedger, VirtualScripts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from historyd.model.wait import Wait
    from historyd.ratelimit.base import Limiter
    from tests.conformance.sends import Sends

SECOND = 1_000_000
WALL_AT_START = 1_700_000_000 * SECOND
ONE_CALL = Cost()


def one_local(options: RateLimiterOptions, timing: Timing, holders: int) -> list[Limiter]:
    return [LocalLimiter("ccxt:binance", options.budget(), timing)] * holders


def shared_in_process(options: RateLimiterOptions, timing: Timing, holders: int) -> list[Limiter]:
    limiters = ProcessLimiters(timing)
    return [limiters.limiter("binance", "", options) for _ in range(holders)]


def one_in_cluster(
    client: Any, shared: bool, options: RateLimiterOptions, timing: Timing, holders: int
) -> list[Limiter]:
    """Limiters on the real scripts in a real Redis: one that all hold, or one each as in processes of their own."""
    budget = options.budget()
    scripts = VirtualScripts(client, budget.limits)
    ledgers: list[VirtualLedger] = []

    def limiter() -> Limiter:
        ledger = VirtualLedger(scripts, timing.clock, ledgers)
        return ClusterLimiter("ccxt:binance", budget, ledger, Errands(), timing)

    return [limiter()] * holders if shared else [limiter() for _ in range(holders)]


def timing(sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Timing:
    return Timing(clock=now_us, wall=lambda: WALL_AT_START + now_us(), sleep=sleep)


def options(**given: object) -> RateLimiterOptions:
    return RateLimiterOptions.model_validate(given)


class Waits:
    """An observer that keeps what it was told."""

    urgent = True

    def __init__(self, deadline: int | None = None) -> None:
        self.deadline = deadline
        self.told: list[Wait] = []

    def waiting(self, wait: Wait) -> None:
        self.told.append(wait)

    def calling(self) -> None:
        raise AssertionError("only the source knows when a call is sent")


async def send_many(limiter: Limiter, count: int, sends: Sends, cost: Cost = ONE_CALL, who: str = "") -> None:
    for _ in range(count):
        await limiter.acquire(cost, Waits())
        sends.add(now_us(), who=who)


async def settle() -> None:
    """Lets every task run until it waits; moves no clock."""
    for _ in range(20):
        await asyncio.sleep(0)


def in_seconds(seconds: float) -> int:
    """A deadline so many seconds after the start, on the host's clock."""
    return WALL_AT_START + round(seconds * SECOND)
