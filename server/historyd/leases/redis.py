"""Leases in Redis: a key per page with a time to live, kept alive by its holder, and news when it is given back.

Rules:
1. A lease is claimed by SET NX PX with a token of its own; only the token's holder renews it or gives it back.
2. The holder renews at a third of TTL_S, so a lease outlives any wait for quota, and a holder that was killed or
   stopped is waited for no longer than TTL_S.
3. Who does not get it waits for news of the page, at most until the lease can have run out and never longer than
   POLL_S, then looks into the store and claims again: news are a hint, the store is the truth.
4. If somebody waits for just this page, each claim that fails asks its holder to hurry: there the page becomes urgent.
5. A holder whose lease has run out, by its own clock from when it last asked for it, sends no call any more: it claims
   again, and finds the page done. An answer that it waits for is committed: what it says is true all the same.
6. Without Redis everybody goes on without a lease.

Keys carry the store's UUID, so servers with different stores never wait for each other.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Self

from historyd.ratelimit.errands import Errands
from historyd.ratelimit.link import ANSWER_S, AWAY, RedisAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from historyd.leases.base import Claimant
    from historyd.ratelimit.link import Link

TTL_S: Final = 6.0
POLL_S: Final = 1.0
_RECONNECT_S: Final = 0.1


@dataclass(slots=True, eq=False)
class _Lease:
    """A lease that this server has. It knows by its own clock until when, at the least."""

    name: str
    token: str
    claimant: Claimant
    until: float = 0.0

    def is_held(self) -> bool:
        return time.monotonic() < self.until


class RedisLeases:
    """The leases of one store at one Redis. An async context manager. Does not close the link."""

    def __init__(self, link: Link, store_uuid: str, *, ttl_s: float = TTL_S) -> None:
        self._link = link
        self._prefix = f"lease:{{{store_uuid}}}"
        self._done = f"{self._prefix}:done"
        self._wanted = f"{self._prefix}:wanted"
        self._ttl_s = ttl_s
        self._errands = Errands()
        self._hearing = asyncio.Event()
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._leases: dict[str, _Lease] = {}
        self._claim_script, self._renew_script, self._release_script = (
            link.client.register_script(_script(name)) for name in ("claim", "renew", "release")
        )

    async def __aenter__(self) -> Self:
        self._errands.run(self._listen(), endless=True)
        await _first_of(self._hearing, ANSWER_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._errands.__aexit__()

    @asynccontextmanager
    async def page(self, name: str, claimant: Claimant, is_done: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:
        """Entered when the page is done (False) or leased to this claimant (True); see the protocol."""
        lease = _Lease(name, secrets.token_hex(8), claimant)
        if not await self._obtain(lease, is_done):
            yield False
            return
        if not lease.until:
            claimant.lease(lambda: True)
            yield not await is_done()
            return
        self._leases[name] = lease
        renewing = self._errands.run(self._keep(lease), endless=True)
        claimant.lease(lease.is_held)
        try:
            # Another may have done it between the last look and the claim.
            yield not await is_done()
        finally:
            del self._leases[name]
            renewing.cancel()
            self._errands.run(self._give_back(lease))

    async def _obtain(self, lease: _Lease, is_done: Callable[[], Awaitable[bool]]) -> bool:
        """Waits until the page is done (False) or the lease is had, or Redis is away (True)."""
        while not await is_done():
            news = asyncio.Event()
            self._waiting[lease.name].add(news)
            try:
                left_s = await self._claim(lease)
                if left_s is None:
                    return True
                await _first_of(news, min(left_s, POLL_S))
            finally:
                self._waiting[lease.name].discard(news)
                if not self._waiting[lease.name]:
                    del self._waiting[lease.name]
        return False

    async def _claim(self, lease: _Lease) -> float | None:
        """None if the lease is ours or there are none; else the seconds it has left."""
        if not self._hearing.is_set():
            return None  # Redis is known to be away; nobody is kept waiting to see it again
        wish = lease.name if lease.claimant.urgent else ""
        arguments = [lease.token, round(self._ttl_s * 1_000), self._wanted, wish]
        asked_at = time.monotonic()
        claiming = self._errands.run(self._ask(self._claim_script, lease, arguments))
        try:
            left_ms = await asyncio.shield(claiming)
        except RedisAway:
            return None
        except asyncio.CancelledError:
            claiming.add_done_callback(lambda _: self._errands.run(self._give_back(lease)))
            raise
        if left_ms:
            return float(left_ms) / 1_000
        lease.until = asked_at + self._ttl_s
        return None

    async def _keep(self, lease: _Lease) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            asked_at = time.monotonic()
            try:
                is_ours = await self._ask(self._renew_script, lease, [lease.token, round(self._ttl_s * 1_000)])
            except RedisAway:
                continue
            lease.until = asked_at + self._ttl_s if is_ours else 0.0

    async def _give_back(self, lease: _Lease) -> None:
        await self._ask(self._release_script, lease, [lease.token, self._done, lease.name])

    async def _ask(self, script: Any, lease: _Lease, arguments: list[object]) -> Any:
        key = f"{self._prefix}:{lease.name}"
        return await self._link.ask(lambda: script(keys=[key], args=arguments))

    async def _listen(self) -> None:
        while True:
            try:
                async with self._link.client.pubsub(ignore_subscribe_messages=True) as news:
                    await news.subscribe(self._done, self._wanted)
                    self._hearing.set()
                    while True:
                        # Silence is normal; a connection that is dead costs waiters POLL_S, no more.
                        message = await news.get_message(timeout=POLL_S)
                        if message is not None:
                            self._tell(message["channel"].decode(), message["data"].decode())
            except AWAY:
                self._hearing.clear()
                await asyncio.sleep(_RECONNECT_S)

    def _tell(self, channel: str, name: str) -> None:
        if channel == self._done:
            for news in self._waiting.get(name, ()):
                news.set()
        elif name in self._leases:
            self._leases[name].claimant.promote()


async def _first_of(news: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return


def _script(name: str) -> str:
    return (files("historyd.leases") / f"{name}.lua").read_text(encoding="utf-8")
