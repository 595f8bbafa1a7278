"""The real scripts in a real Redis, on a clock that tests set: only `TIME` is replaced in their text."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final

from historyd.ratelimit.cluster import LONGEST_PENALTY, Booking, LedgerAway, LongPenalty, LongWait
from historyd.ratelimit.local import FOREVER
from historyd.ratelimit.redis import redis_keys, script_text, shape_of
from historyd.ratelimit.window_log import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from historyd.ratelimit.budget import Limit
    from historyd.ratelimit.cluster import Ledger, Observed

_LONG_AGO: Final = 1_000
_BEGIN: Final = 10**12
"""Microseconds of Redis' clock at the tests' time 0: the hold of a fresh state is over."""
_NUMBERS: Final = itertools.count()
_TIME: Final = "redis.call('TIME')"


class VirtualScripts:
    """The scripts on one budget; every call says what time it is."""

    def __init__(self, client: Any, limits: Sequence[Limit], key: str | None = None) -> None:
        name = key or f"test-{os.getpid()}-{next(_NUMBERS)}"
        self.keys = redis_keys(name, limits)
        self.shape = shape_of(limits)
        self._client = client
        self._clock = f"{name}:clock"
        self._scripts = {name: self._script(name) for name in ("reserve", "hand_back", "penalise", "begin_anew")}
        self.call("penalise", _LONG_AGO - _BEGIN, 0)

    def call(self, name: str, now: int, *arguments: object) -> Any:
        self._client.set(self._clock, _BEGIN + now)
        return self._scripts[name](keys=self.keys, args=[self.shape, *arguments])

    def _script(self, name: str) -> Any:
        text = script_text(name)
        assert text.count(_TIME) == 1
        return self._client.register_script(text.replace(_TIME, f"{{ '0', redis.call('GET', '{self._clock}') }}"))


class LuaLog:
    """The scripts with the methods of WindowLog, for the model that checks both."""

    def __init__(self, client: Any, limits: Sequence[Limit]) -> None:
        self._limits = limits
        self._scripts = VirtualScripts(client, limits)
        self.epoch = self._scripts.call("penalise", 0, 0)
        self.penalty_until = 0

    def reserve(self, parts: Sequence[int], now: int) -> Ticket:
        reply = self._scripts.call("reserve", now, ",".join(map(str, parts)), 0, 10**9, FOREVER, "")
        wait, epoch, number, pause = reply
        assert epoch == self.epoch
        assert pause == max(0, self.penalty_until - now)
        graces = [limit.grace for limit, part in zip(self._limits, parts, strict=True) if part]
        return Ticket(number, now + wait, now + wait + min(graces, default=1 << 62), epoch)

    def observe(self, index: int, used: int, now: int) -> None:
        """A call that costs nothing takes along what the venue said."""
        nothing = ",".join("0" for _ in self._limits)
        self._scripts.call("reserve", now, nothing, 0, 10**9, FOREVER, f"{index}/{used}/0")

    def is_valid(self, ticket: Ticket, now: int) -> bool:
        return ticket.epoch == self.epoch and ticket.due <= now <= ticket.latest

    def hand_back(self, ticket: Ticket) -> None:
        self._scripts.call("hand_back", 0, ticket.number)

    def penalise(self, now: int, until: int) -> None:
        self.epoch = self._scripts.call("penalise", now, until - now)
        self.penalty_until = max(self.penalty_until, until)


class VirtualLedger:
    """A ledger for ClusterLimiter whose answers take no time; news reach all ledgers of the key at once."""

    def __init__(self, scripts: VirtualScripts, clock: Callable[[], int], all_of_key: list[VirtualLedger]) -> None:
        self._scripts = scripts
        self._clock = clock
        self._peers = all_of_key
        self._peers.append(self)
        self._epoch: int = scripts.call("penalise", clock(), 0)
        self._heard: list[Callable[[], None]] = []
        self.is_away = False
        self.begun_anew = 0

    async def reserve(
        self, parts: Sequence[int], stretch: int, patience: int, returned: Sequence[int], observed: Sequence[Observed]
    ) -> Booking:
        if self.is_away:
            raise LedgerAway("away")
        seen = ";".join(f"{each.limit}/{each.used}/{each.age}" for each in observed)
        amounts = ",".join(map(str, parts))
        arguments = (amounts, stretch, LONGEST_PENALTY, patience, seen, *returned)
        wait, epoch, number, pause = self._scripts.call("reserve", self._clock(), *arguments)
        if wait == -1:
            raise LongPenalty(pause)
        if wait == -3:
            raise LongWait(pause)
        return Booking(number, epoch, wait, pause)

    async def hand_back(self, numbers: Sequence[int]) -> None:
        self._scripts.call("hand_back", self._clock(), *numbers)

    async def penalise(self, pause: int) -> None:
        self._tell_all(self._scripts.call("penalise", self._clock(), pause))

    async def begin_anew(self) -> None:
        if self.is_away:
            raise LedgerAway("away")
        self.begun_anew += 1
        self._tell_all(self._scripts.call("begin_anew", self._clock()))

    def go(self, *, away: bool) -> None:
        """Goes away, or comes back, for this server."""
        self.is_away = away
        for heard in self._heard:
            heard()

    def _tell_all(self, epoch: int) -> None:
        for peer in self._peers:
            peer._epoch = epoch
            for heard in peer._heard:
                heard()

    def is_current(self, booking: Booking) -> bool:
        return booking.epoch == self._epoch and not self.is_away

    def on_news(self, heard: Callable[[], None]) -> None:
        self._heard.append(heard)


def ledger_conforms(ledger: VirtualLedger) -> Ledger:
    """For the type checker: it is one."""
    return ledger
