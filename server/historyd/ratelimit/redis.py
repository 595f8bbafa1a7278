"""The ledger of a cluster in Redis: Lua scripts on Redis' own clock, news by pub/sub; and who shares which limiter.

Promises: every command is answered or given up within ANSWER_S (QuotaUnavailable), so nobody hangs on a Redis that is
away; nothing is booked before the news of the key are being heard; after a break of that connection bookings count as
void until the epoch was compared. All keys of a budget carry one hash tag, so they live on one node of a Redis Cluster.
Two DSNs never share a limiter. No message carries a DSN.
Never does: hold a lock, or decide anything outside of the scripts.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Self

import redis.asyncio as redis_asyncio
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from historyd.errors import QuotaUnavailable
from historyd.ratelimit.cluster import LONGEST_PENALTY, Booking, ClusterLimiter, LongPenalty
from historyd.ratelimit.errands import Errands

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from historyd.ratelimit.budget import Budget, Limit

DEFAULT_DSN: Final = "redis://localhost:6379/0"
DSN_VARIABLE: Final = "QMTL_CCXT_RATE_LIMITER_REDIS"
ANSWER_S: Final = 0.45
"""Longest wait for an answer of Redis, the connecting included."""
_LISTEN_S: Final = 1.0
_SILENT_TURNS: Final = 20
"""After so many times _LISTEN_S of silence the connection for news is tested, at once after a command has failed; it
counts as broken if it does not answer within _LISTEN_S."""
_RECONNECT_S: Final = 0.1
_AWAY: Final = (RedisError, OSError, TimeoutError)


def resolve_dsn(given: str | None, configured: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Where the state is: the limiter's own option, the connectors' setting, the environment, or the default."""
    return given or configured or environ.get(DSN_VARIABLE, "").strip() or DEFAULT_DSN


def shape_of(limits: Sequence[Limit]) -> str:
    """Limits as the scripts read them; servers must agree on it to share a key."""
    return ";".join(f"{limit.unit}/{limit.amount}/{limit.window}/{limit.margin}" for limit in limits)


def script_text(name: str) -> str:
    """The whole text of one of the scripts."""
    folder = files("historyd.ratelimit")
    return "\n".join((folder / file).read_text(encoding="utf-8") for file in ("window_log.lua", f"{name}.lua"))


def redis_keys(key: str, limits: Sequence[Limit]) -> list[str]:
    """The state's key and one for each limit's log. Braces in the budget's key would end the hash tag."""
    tag = key.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return [f"rl:{{{tag}}}", *(f"rl:{{{tag}}}:log:{index}" for index in range(len(limits)))]


def check_dsn(dsn: str) -> None:
    """Raises ValueError for a DSN that cannot be read, without repeating it."""
    try:
        parse_url(dsn)
    except ValueError:
        raise ValueError("the redis_dsn cannot be read; it looks like redis://[:password@]host:6379/0") from None


@dataclass(frozen=True)
class Link:
    """A client of one Redis. Whoever holds `turn` may send a command: one connection is enough, and stays warm."""

    client: redis_asyncio.Redis
    answer_s: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


def connect(dsn: str, answer_s: float = ANSWER_S) -> Link:
    """A link that gives up after `answer_s`. Connects when it is first used. Raises ValueError as `check_dsn`."""
    check_dsn(dsn)
    client = redis_asyncio.Redis.from_url(
        dsn,
        socket_timeout=answer_s,
        socket_connect_timeout=answer_s,
        retry=Retry(NoBackoff(), 1),  # a kept connection may have been closed by Redis since
    )
    return Link(client, answer_s)


class RedisLedger:
    """The bookings of one budget in one Redis; see Ledger in cluster.py."""

    def __init__(self, link: Link, key: str, limits: Sequence[Limit], errands: Errands) -> None:
        self._link = link
        self._key = key
        self._shape = shape_of(limits)
        self._keys = redis_keys(key, limits)
        self._errands = errands
        self._reserve = link.client.register_script(script_text("reserve"))
        self._hand_back = link.client.register_script(script_text("hand_back"))
        self._penalise = link.client.register_script(script_text("penalise"))
        self._listening: asyncio.Task[None] | None = None
        self._hearing = asyncio.Event()
        self._in_doubt = False
        self._epoch = 0
        self._listeners: list[Callable[[], None]] = []

    async def reserve(self, parts: Sequence[int], stretch: int, returned: Sequence[int]) -> Booking:
        """Hands back and books; see the protocol."""
        amounts = ",".join(map(str, parts))
        age, answer = await self._ask(self._reserve, amounts, stretch, LONGEST_PENALTY, *returned)
        wait, epoch, number, pause = map(int, answer)
        if wait == -2:
            raise QuotaUnavailable(
                f"servers with another rate_limiter setting use the quota {self._key}: make the settings equal",
                key=self._key,
            )
        if epoch > self._epoch:  # never back: this answer may have been overtaken by newer news
            self._heard(epoch)
        if wait == -1:
            raise LongPenalty(pause)
        return Booking(number, epoch, wait, pause, age)

    async def hand_back(self, numbers: Sequence[int]) -> None:
        """Forgets bookings that were not used."""
        await self._ask(self._hand_back, *numbers)

    async def penalise(self, pause: int) -> None:
        """Begins a pause for all; see the protocol."""
        await self._ask(self._penalise, pause)

    def is_current(self, booking: Booking) -> bool:
        """Whether the booking's epoch is the newest and news are being heard."""
        return self._hearing.is_set() and booking.epoch == self._epoch

    def on_news(self, heard: Callable[[], None]) -> None:
        """`heard` is called at every news, and when the connection for news breaks."""
        self._listeners.append(heard)

    async def _ask(self, script: Any, *arguments: object) -> tuple[int, Any]:
        """Microseconds that the answer took, and the answer."""
        if self._listening is None:
            self._listening = self._errands.run(self._listen(), endless=True)
        try:
            async with asyncio.timeout(self._link.answer_s):
                await self._hearing.wait()
                async with self._link.turn:
                    began = time.monotonic_ns()
                    answer = await script(keys=self._keys, args=[self._shape, *arguments])
                    return (time.monotonic_ns() - began) // 1_000, answer
        except _AWAY as error:
            self._in_doubt = True
            raise QuotaUnavailable(
                f"the quota {self._key} is shared through Redis, which does not answer", key=self._key
            ) from error

    async def _listen(self) -> None:
        """Hears the news for as long as it is let, whatever becomes of the connection."""
        while True:
            try:
                async with self._link.client.pubsub() as news:
                    await news.subscribe(f"{self._keys[0]}:epoch")
                    await self._hear(news)
            except _AWAY:
                self._hearing.clear()
                self._tell()
            await asyncio.sleep(_RECONNECT_S)

    async def _hear(self, news: Any) -> None:
        """Follows the epoch. Raises one of _AWAY when the connection is broken."""
        silent_turns, is_tested = 0, False
        while True:
            message = await news.get_message(timeout=_LISTEN_S)
            if message is None:
                if is_tested:
                    raise RedisConnectionError("no answer on the connection for news")
                silent_turns += 1
                if self._in_doubt or silent_turns == _SILENT_TURNS:
                    is_tested, self._in_doubt = True, False
                    await news.ping()
                continue
            silent_turns, is_tested = 0, False
            if message["type"] == "subscribe":
                # Only now nothing can be missed: what changed before is in the state, what changes later is told.
                await self._bring_script()
                self._heard(await self._look_up_epoch())
                self._hearing.set()
            elif message["type"] == "message" and int(message["data"]) != self._epoch:
                # The message is a hint: another database of this Redis may have a budget of the same name.
                self._heard(await self._look_up_epoch())

    async def _bring_script(self) -> None:
        """Once per connection, so that no booking waits for it; the rarer scripts are brought when they are used."""
        async with asyncio.timeout(self._link.answer_s), self._link.turn:
            await self._link.client.script_load(self._reserve.script)

    async def _look_up_epoch(self) -> int:
        """The epoch in the state, 0 if there is none."""
        async with asyncio.timeout(self._link.answer_s), self._link.turn:
            return int(await self._link.client.hget(self._keys[0], "epoch") or 0)

    def _heard(self, epoch: int) -> None:
        self._epoch = epoch
        self._tell()

    def _tell(self) -> None:
        for heard in self._listeners:
            heard()


class ClusterLimiters:
    """Makes limiters on Redis and remembers them. An async context manager; its exit closes all connections.

    `answer_s` is the longest wait for an answer of Redis.
    """

    def __init__(self, *, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._stack = AsyncExitStack()
        self._errands = Errands()
        self._links: dict[str, Link] = {}
        self._limiters: dict[tuple[str, str], ClusterLimiter] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        async with self._stack:  # closes the clients, last
            await self._errands.__aexit__()

    def limiter(self, key: str, budget: Budget, dsn: str) -> ClusterLimiter:
        """The limiter of a key at a Redis. Needs no Redis to answer yet. Raises ValueError for a senseless DSN."""
        limiter = self._limiters.get((dsn, key))
        if limiter is None:
            ledger = RedisLedger(self._link(dsn), key, budget.limits, self._errands)
            limiter = self._limiters[dsn, key] = ClusterLimiter(key, budget, ledger, self._errands)
        return limiter

    def _link(self, dsn: str) -> Link:
        link = self._links.get(dsn)
        if link is None:
            link = self._links[dsn] = connect(dsn, self._answer_s)
            self._stack.push_async_callback(link.client.aclose)
        return link
