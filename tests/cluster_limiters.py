"""Limiters and leases at a Redis, as one server has them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from historyd.leases.redis import TTL_S, RedisLeases
from historyd.ratelimit.link import ANSWER_S, Link, Links
from historyd.ratelimit.redis import ClusterLimiters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def cluster_limiters(answer_s: float = ANSWER_S) -> AsyncIterator[ClusterLimiters]:
    """Limiters of one server; `answer_s` is its patience with Redis."""
    async with Links(answer_s=answer_s) as links, ClusterLimiters(links) as limiters:
        yield limiters


@asynccontextmanager
async def redis_leases(
    dsn: str, store_uuid: str, *, ttl_s: float = TTL_S, answer_s: float = ANSWER_S
) -> AsyncIterator[RedisLeases]:
    """Leases of one server."""
    async with Link(dsn, answer_s) as link, RedisLeases(link, store_uuid, ttl_s=ttl_s) as leases:
        yield leases
