"""Links to Redis: where it is, one connection for commands each, and a breaker for when it is away.

Promises: every command is answered or given up within `answer_s` (RedisAway), so nobody hangs on a Redis that is away.
Only time in which this process ran counts: one that stood still does not take that for Redis' silence. Once a command
was given up, all others are refused at once until Redis answers again, which is looked for every _RETRY_S. Limiters and
leases at one DSN share one link, so that Redis is found to be away once. No message carries a DSN.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self, TypeVar

import redis.asyncio as redis_asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from historyd.ratelimit.errands import Errands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

T = TypeVar("T")

DEFAULT_DSN: Final = "redis://localhost:6379/0"
DSN_VARIABLE: Final = "QMTL_CCXT_RATE_LIMITER_REDIS"
ANSWER_S: Final = 0.45
"""Longest wait for an answer of Redis, the connecting included."""
AWAY: Final = (RedisError, OSError, TimeoutError)
"""What the driver raises when Redis cannot be used."""
_RETRY_S: Final = 0.1
_CONNECT_S: Final = 2.0
"""Longest wait for a connection that nobody waits for, that for news."""
_KEEPALIVE: Final = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPALIVE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
"""Seconds, and how many times: the kernel breaks a connection whose peer is gone within 20 s, at no command's cost."""
_TICKS: Final = 9
"""In so many parts an answer is waited for; a part in which the process stood still counts as one."""


class RedisAway(Exception):
    """Redis does not answer."""


def resolve_dsn(given: str | None, configured: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Where the state is: the limiter's own option, the connectors' setting, the environment, or the default."""
    return given or configured or environ.get(DSN_VARIABLE, "").strip() or DEFAULT_DSN


def check_dsn(dsn: str) -> None:
    """Raises ValueError for a DSN that cannot be read, without repeating it."""
    try:
        parse_url(dsn)
    except ValueError:
        raise ValueError("the redis_dsn cannot be read; it looks like redis://[:password@]host:6379/0") from None


class Link:
    """One Redis. Connects when it is first used. An async context manager. Raises ValueError as `check_dsn`.

    Attributes:
        client: for scripts and subscriptions; commands go through `ask`.
        is_away: whether commands are refused at the moment.
    """

    def __init__(self, dsn: str, answer_s: float = ANSWER_S) -> None:
        check_dsn(dsn)
        self.client = redis_asyncio.Redis.from_url(
            dsn,
            socket_timeout=None,  # `ask` sees to it
            socket_connect_timeout=_CONNECT_S,
            retry=Retry(NoBackoff(), 1),  # a kept connection may have been closed by Redis since
            socket_keepalive=True,
            socket_keepalive_options=_KEEPALIVE,
            # What saves three commands for each connection, and asks nothing of Redis that Valkey has not.
            protocol=2,
            driver_info=None,
        )
        self.is_away = False
        self._answer_s = answer_s
        self._turn = asyncio.Lock()  # one connection is enough, and stays warm
        self._errands = Errands()
        self._listeners: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._errands.__aexit__()
        finally:
            await self.client.aclose()

    def on_change(self, changed: Callable[[], None]) -> None:
        """`changed` is called whenever `is_away` has changed."""
        self._listeners.append(changed)

    async def ask(self, command: Callable[[], Awaitable[T]], *, after: asyncio.Event | None = None) -> T:
        """Sends a command, once `after` is set; its answer. Raises RedisAway."""
        if self.is_away:
            raise RedisAway
        try:
            async with _attentive(self._answer_s):
                if after is not None:
                    await after.wait()
                async with self._turn:
                    return await command()
        except AWAY as error:
            self._set_away()
            raise RedisAway from error

    def _set_away(self) -> None:
        if not self.is_away:
            self.is_away = True
            self._errands.run(self._look_for_it(), endless=True)
            self._tell()

    async def _look_for_it(self) -> None:
        while self.is_away:
            await asyncio.sleep(_RETRY_S)
            try:
                async with _attentive(self._answer_s), self._turn:
                    await self.client.ping()
            except AWAY:
                continue
            self.is_away = False
        self._tell()

    def _tell(self) -> None:
        for changed in self._listeners:
            changed()


@asynccontextmanager
async def _attentive(seconds: float) -> AsyncIterator[None]:
    """Raises TimeoutError after so many seconds in which this process ran."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        ticking = loop.call_later(seconds / _TICKS, lambda: tick(_TICKS - 1))

        def tick(left: int) -> None:
            nonlocal ticking
            if left:
                ticking = loop.call_later(seconds / _TICKS, tick, left - 1)
            else:
                limit.reschedule(0)

        try:
            yield
        finally:
            ticking.cancel()


class Links:
    """Makes links and remembers them by DSN. An async context manager; its exit closes them."""

    def __init__(self, *, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._stack = AsyncExitStack()
        self._links: dict[str, Link] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def link(self, dsn: str) -> Link:
        """The link to a Redis, which need not answer yet. Raises ValueError for a senseless DSN."""
        link = self._links.get(dsn)
        if link is None:
            link = self._links[dsn] = Link(dsn, self._answer_s)
            self._stack.push_async_exit(link)
        return link
