"""The ledger of a cluster in Redis: Lua scripts on Redis' own clock, news by pub/sub; and who shares which limiter.

Promises: nothing is booked before the news of the key are being heard; after a break of that connection bookings count
as void until the epoch was compared. All keys of a budget carry one hash tag, so they live on one node of a Redis
Cluster. Two DSNs never share a limiter.
Never does: hold a lock, or decide anything outside of the scripts.
"""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Self

from redis.exceptions import ConnectionError as RedisConnectionError

from historyd.errors import QuotaUnavailable
from historyd.ratelimit.cluster import LONGEST_PENALTY, Booking, ClusterLimiter, LedgerAway, LongPenalty, LongWait
from historyd.ratelimit.errands import Errands
from historyd.ratelimit.link import AWAY, Links, RedisAway
from historyd.ratelimit.share import ShareLimiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from historyd.ratelimit.base import Limiter
    from historyd.ratelimit.budget import Budget, Limit
    from historyd.ratelimit.cluster import Observed
    from historyd.ratelimit.link import Link

_LISTEN_S: Final = 1.0
"""The connection for news is tested after a command has failed; it is broken if it does not answer for so long."""
_RECONNECT_S: Final = 0.1


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


class RedisLedger:
    """The bookings of one budget in one Redis; see Ledger in cluster.py.

    `is_watchful`: the connection for news is tested after each second of silence; else only when in doubt, as the
    kernel sees to a peer that is gone (link.py), and one that is stuck has no news.
    """

    def __init__(
        self, link: Link, key: str, limits: Sequence[Limit], errands: Errands, *, is_watchful: bool = False
    ) -> None:
        self._link = link
        self._key = key
        self._shape = shape_of(limits)
        self._keys = redis_keys(key, limits)
        self._errands = errands
        self._is_watchful = is_watchful
        self._reserve = link.client.register_script(script_text("reserve"))
        self._hand_back = link.client.register_script(script_text("hand_back"))
        self._penalise = link.client.register_script(script_text("penalise"))
        self._begin_anew = link.client.register_script(script_text("begin_anew"))
        self._listening: asyncio.Task[None] | None = None
        self._hearing = asyncio.Event()
        self._in_doubt = False
        self._epoch = 0
        self._listeners: list[Callable[[], None]] = []
        link.on_change(self._tell)

    @property
    def is_away(self) -> bool:
        """Whether Redis is known not to answer."""
        return self._link.is_away

    async def reserve(
        self, parts: Sequence[int], stretch: int, patience: int, returned: Sequence[int], observed: Sequence[Observed]
    ) -> Booking:
        """Hands back and books; see the protocol."""
        seen = ";".join(f"{each.limit}/{each.used}/{each.age}" for each in observed)
        amounts = ",".join(map(str, parts))
        age, answer = await self._ask(self._reserve, amounts, stretch, LONGEST_PENALTY, patience, seen, *returned)
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
        if wait == -3:
            raise LongWait(pause)
        return Booking(number, epoch, wait, pause, age)

    async def hand_back(self, numbers: Sequence[int]) -> None:
        """Forgets bookings that were not used."""
        await self._ask(self._hand_back, *numbers)

    async def penalise(self, pause: int) -> None:
        """Begins a pause for all; see the protocol."""
        await self._ask(self._penalise, pause)

    async def begin_anew(self) -> None:
        """Distrusts the state; see the protocol."""
        await self._ask(self._begin_anew)

    def is_current(self, booking: Booking) -> bool:
        """Whether the booking's epoch is the newest and news are being heard."""
        return self._hearing.is_set() and booking.epoch == self._epoch

    def on_news(self, heard: Callable[[], None]) -> None:
        """`heard` is called at every news, when the connection for news breaks, and when Redis goes or comes back."""
        self._listeners.append(heard)

    async def _ask(self, script: Any, *arguments: object) -> tuple[int, Any]:
        """Microseconds that the answer took, and the answer."""
        if self._listening is None:
            self._listening = self._errands.run(self._listen(), endless=True)

        async def command() -> tuple[int, Any]:
            began = time.monotonic_ns()
            answer = await script(keys=self._keys, args=[self._shape, *arguments])
            return (time.monotonic_ns() - began) // 1_000, answer

        try:
            return await self._link.ask(command, after=self._hearing)
        except RedisAway as error:
            self._in_doubt = True
            raise LedgerAway(
                f"the quota {self._key} is shared through Redis, which does not answer", key=self._key
            ) from error

    async def _listen(self) -> None:
        """Hears the news for as long as it is let, whatever becomes of the connection."""
        while True:
            try:
                async with self._link.client.pubsub() as news:
                    await news.subscribe(f"{self._keys[0]}:epoch")
                    await self._hear(news)
            except AWAY:
                self._hearing.clear()
                self._tell()
            await asyncio.sleep(_RECONNECT_S)

    async def _hear(self, news: Any) -> None:
        """Follows the epoch. Raises one of AWAY when the connection is broken."""
        is_tested = False
        while True:
            message = await news.get_message(timeout=_LISTEN_S)
            if message is None:
                if is_tested:
                    raise RedisConnectionError("no answer on the connection for news")
                if self._in_doubt or self._is_watchful:
                    is_tested, self._in_doubt = True, False
                    await news.ping()
                continue
            is_tested = False
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
        await self._tell_redis(lambda: self._link.client.script_load(self._reserve.script))

    async def _look_up_epoch(self) -> int:
        """The epoch in the state, 0 if there is none."""
        return int(await self._tell_redis(lambda: self._link.client.hget(self._keys[0], "epoch")) or 0)

    async def _tell_redis(self, command: Callable[[], Awaitable[Any]]) -> Any:
        """Sends a command that no caller waits for. Raises one of AWAY."""
        try:
            return await self._link.ask(command)
        except RedisAway as error:
            raise RedisConnectionError("no answer") from error

    def _heard(self, epoch: int) -> None:
        self._epoch = epoch
        self._tell()

    def _tell(self) -> None:
        for heard in self._listeners:
            heard()


class ClusterLimiters:
    """Makes limiters on Redis and remembers them. An async context manager; leaving it ends what they have under way.

    Closes none of the links that it is given.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._errands = Errands()
        self._limiters: dict[tuple[str, str], Limiter] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._errands.__aexit__()

    def limiter(self, key: str, budget: Budget, dsn: str) -> Limiter:
        """The limiter of a key at a Redis. Needs no Redis to answer yet. Raises ValueError for a senseless DSN."""
        limiter = self._limiters.get((dsn, key))
        if limiter is None:
            limiter = self._limiters[dsn, key] = self._make(key, budget, self._links.link(dsn))
        return limiter

    def _make(self, key: str, budget: Budget, link: Link) -> Limiter:
        if budget.replicas is None:
            ledger = RedisLedger(link, key, budget.limits, self._errands)
            return ClusterLimiter(key, budget, ledger, self._errands)
        # A server that shares the quota out must soon know that it, or all of them, are cut off.
        ledger = RedisLedger(link, key, budget.limits, self._errands, is_watchful=True)
        return ShareLimiter(ClusterLimiter(key, budget, ledger, self._errands), ledger)
