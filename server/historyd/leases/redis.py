"""Leases in Redis: a key per page with a time to live, kept alive by its holder, and news when it is given back.

Rules:
1. A lease is claimed by SET NX PX with a token of its own; only the token's holder renews it or gives it back.
2. The holder renews at a third of TTL_S, so a lease outlives any wait for quota, and a holder that was killed or
   stopped is waited for no longer than TTL_S.
3. Who does not get it waits for news of the page, at most until the lease can have run out and never longer than
   POLL_S, then looks into the store and claims again: news are a hint, the store is the truth.
4. A holder that lost its lease goes on: what it commits is true all the same.
5. Without Redis everybody goes on without a lease.

Keys carry the store's UUID, so servers with different stores never wait for each other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Self

from redis.exceptions import RedisError

from historyd.ratelimit.errands import Errands
from historyd.ratelimit.redis import ANSWER_S, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TTL_S: Final = 6.0
POLL_S: Final = 1.0
_RECONNECT_S: Final = 0.1
_AWAY: Final = (RedisError, OSError, TimeoutError)


class RedisLeases:
    """The leases of one store at one Redis. An async context manager. Raises ValueError for a senseless DSN."""

    def __init__(self, dsn: str, store_uuid: str, *, ttl_s: float = TTL_S, answer_s: float = ANSWER_S) -> None:
        self._link = connect(dsn, answer_s)
        self._prefix = f"lease:{{{store_uuid}}}"
        self._channel = f"{self._prefix}:done"
        self._ttl_s = ttl_s
        self._errands = Errands()
        self._hearing = asyncio.Event()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._release = self._link.client.register_script(_script("release"))
        self._renew = self._link.client.register_script(_script("renew"))

    async def __aenter__(self) -> Self:
        self._errands.run(self._listen(), endless=True)
        await _first_of(self._hearing, self._link.answer_s)
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._errands.__aexit__()
        finally:
            await self._link.client.aclose()

    @asynccontextmanager
    async def page(self, name: str, is_done: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
        """Entered when the page is done (False) or leased to this caller (True); see the protocol."""
        token = secrets.token_hex(8)
        if not await self._obtain(name, token, is_done):
            yield False
            return
        renewing = self._errands.run(self._keep(name, token), endless=True)
        try:
            # Another may have done it between the last look and the claim.
            yield not await is_done()
        finally:
            renewing.cancel()
            self._errands.run(self._give_back(name, token))

    async def _obtain(self, name: str, token: str, is_done: Callable[[], Awaitable[bool]]) -> bool:
        """Waits until the page is done (False) or the lease is had, or Redis is away (True)."""
        while not await is_done():
            news = asyncio.Event()
            self._waiting[name].add(news)
            try:
                left_s = await self._claim(name, token)
                if left_s is None:
                    return True
                await _first_of(news, min(left_s, POLL_S))
            finally:
                self._waiting[name].discard(news)
                if not self._waiting[name]:
                    del self._waiting[name]
        return False

    async def _claim(self, name: str, token: str) -> float | None:
        """None if the lease is ours or there are none; else the seconds it has left."""
        if not self._hearing.is_set():
            return None  # Redis is known to be away; nobody is kept waiting to see it again
        claiming = self._errands.run(self._set(self._key(name), token))
        try:
            return await asyncio.shield(claiming)
        except _AWAY:
            return None
        except asyncio.CancelledError:
            claiming.add_done_callback(lambda _: self._errands.run(self._give_back(name, token)))
            raise

    async def _set(self, key: str, token: str) -> float | None:
        client = self._link.client
        async with asyncio.timeout(self._link.answer_s), self._link.turn:
            if await client.set(key, token, nx=True, px=round(self._ttl_s * 1_000)):
                return None
            return max(int(await client.pttl(key)), 1) / 1_000

    async def _keep(self, name: str, token: str) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            try:
                async with asyncio.timeout(self._link.answer_s), self._link.turn:
                    await self._renew(keys=[self._key(name)], args=[token, round(self._ttl_s * 1_000)])
            except _AWAY:
                continue

    async def _give_back(self, name: str, token: str) -> None:
        async with asyncio.timeout(self._link.answer_s), self._link.turn:
            await self._release(keys=[self._key(name)], args=[token, self._channel, name])

    async def _listen(self) -> None:
        while True:
            try:
                async with self._link.client.pubsub(ignore_subscribe_messages=True) as news:
                    await news.subscribe(self._channel)
                    self._hearing.set()
                    while True:
                        # Silence is normal; a connection that is dead costs waiters POLL_S, no more.
                        message = await news.get_message(timeout=POLL_S)
                        if message is not None:
                            self._tell(message["data"].decode())
            except _AWAY:
                self._hearing.clear()
                await asyncio.sleep(_RECONNECT_S)

    def _tell(self, name: str) -> None:
        for news in self._waiting.get(name, ()):
            news.set()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


async def _first_of(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return


def _script(name: str) -> str:
    return (files("historyd.leases") / f"{name}.lua").read_text(encoding="utf-8")
