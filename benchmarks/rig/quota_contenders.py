"""Who hands out a quota shared through Redis: ours, the specification's original, and a library.

Each opens as an async context manager that gives `acquire(weight)`, which returns when a call may be sent.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio as redis_asyncio

from historyd.ratelimit.base import Cost
from historyd.ratelimit.link import Links
from historyd.ratelimit.options import RateLimiterOptions
from historyd.ratelimit.redis import ClusterLimiters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from historyd.model.wait import Wait

    Acquire = Callable[[int], Awaitable[None]]

_KEY: Final = "ccxt:bench"


class _Unobserved:
    urgent = True
    deadline = None

    def waiting(self, wait: Wait) -> None:
        pass

    def calling(self) -> None:
        pass


@asynccontextmanager
async def ours(dsn: str, options: Mapping[str, Any]) -> AsyncIterator[Acquire]:
    """The limiter of scope `cluster`."""
    budget = RateLimiterOptions.model_validate(options).budget()
    async with Links() as links, ClusterLimiters(links) as limiters:
        limiter = limiters.limiter(_KEY, budget, dsn)

        async def acquire(weight: int) -> None:
            await limiter.acquire(Cost(weight=weight), _Unobserved())

        yield acquire


@asynccontextmanager
async def bucket(dsn: str, options: Mapping[str, Any]) -> AsyncIterator[Acquire]:
    """The algorithm of the specification's original: a token bucket read, counted and written back in several steps.

    A task polls, from 1 ms on, doubling to 100 ms. Several limits are asked one after the other.
    """
    client = redis_asyncio.Redis.from_url(dsn)
    limits = _limits(options)

    async def take(index: int, amount: int) -> None:
        most, interval_ms, weighed = limits[index]
        name, pause, cost = f"rl:{_KEY}:{index}", 0.001, amount if weighed else 1
        while True:
            seconds, micros = await client.time()
            now = seconds * 1000 + micros // 1000
            async with client.pipeline(transaction=True) as pipe:
                pipe.hget(name, "tokens")
                pipe.hget(name, "ts")
                stored, stamp = await pipe.execute()
            tokens = most if stored is None else float(stored)
            tokens = min(most, tokens + max(0, now - int(stamp or now)) * most / interval_ms)
            granted = tokens >= cost
            await client.hset(name, mapping={"tokens": tokens - cost if granted else tokens, "ts": now})
            await client.expire(name, 600)
            if granted:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)

    async def acquire(weight: int) -> None:
        for index in range(len(limits)):
            await take(index, weight)

    async with client:
        yield acquire


@asynccontextmanager
async def pyrate(dsn: str, options: Mapping[str, Any]) -> AsyncIterator[Acquire]:
    """pyrate-limiter's sliding log in Redis. Several limits are asked one after the other."""
    from pyrate_limiter import Limiter, Rate, RedisBucket

    client = redis_asyncio.Redis.from_url(dsn)
    limits = _limits(options)
    async with client:
        limiters = []
        for index, (most, interval_ms, _) in enumerate(limits):
            made = await RedisBucket.init([Rate(most, interval_ms)], client, f"pyrate:{index}")
            limiters.append(Limiter(made))

        async def acquire(weight: int) -> None:
            for limiter, (_, _, weighed) in zip(limiters, limits, strict=True):
                await limiter.try_acquire_async("call", weight if weighed else 1)

        yield acquire


CONTENDERS: Final[Mapping[str, Callable[[str, Mapping[str, Any]], Any]]] = {
    "ours": ours,
    "bucket": bucket,
    "pyrate": pyrate,
}


def _limits(options: Mapping[str, Any]) -> list[tuple[int, int, bool]]:
    """Amount, milliseconds and whether weight is counted, of each limit."""
    if "limits" not in options:
        return [(options["tokens_per_interval"], options["interval_ms"], False)]
    return [
        (limit.get("weight") or limit["calls"], limit["interval_ms"], "weight" in limit) for limit in options["limits"]
    ]
