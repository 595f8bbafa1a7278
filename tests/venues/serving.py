"""The skeleton that all loopback venues share: routes, recorded calls, scripted faults, a clock of the venue's own.

    async with serve(Okx(Tape(["BTC/USDT"]))) as venue:
        ExchangeOptions(base_url=venue.url), venue.bars.next(...), venue.count(), venue.calls

A dialect (one module each) says what its venue answers. What of that was read in ccxt or in recorded replies and what
is only believed is said in its docstring. Nothing here contacts a real venue.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, ClassVar

from aiohttp import web

from tests.venue_faults import VenueFaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiohttp.typedefs import Handler

    from tests.venue_faults import Fault
    from tests.venues.tape import Tape

    Query = Mapping[str, str]
    Reply = Callable[[Query], Any]

Tails = str | tuple[str, ...]


class Refusal(Exception):
    """What a dialect raises to answer with an error."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers or {}


class Dialect(ABC):
    """One venue's way to answer.

    Attributes:
        exchange: the ccxt id.
        spot: a symbol that the venue lists.
        bars_tail, trades_tail, markets_tail: how the paths of these questions end.
        quota_spent: what it answers to who asks too often: how it is known -> the answer.
        ccxt: settings that spare the tests calls (currencies, options ...).
        page_trades: most trades that it returns at once; a test may set it to less.
    """

    exchange: ClassVar[str]
    spot: ClassVar[str]
    bars_tail: ClassVar[Tails]
    trades_tail: ClassVar[Tails]
    markets_tail: ClassVar[Tails]
    quota_spent: ClassVar[Mapping[str, Fault]]
    ccxt: ClassVar[Mapping[str, Any]] = {}
    page_trades: int = 1000

    def __init__(self, tape: Tape, clock: Callable[[], int] | None = None) -> None:
        self.tape = tape
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)

    @abstractmethod
    def routes(self) -> Mapping[str, Reply]:
        """What is answered, by path in aiohttp's notation; parts of the path are among the query."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    path: str
    query: Mapping[str, str]


@dataclass
class LoopbackVenue:
    """A running venue; the faults are scripted for bars, trades and markets each."""

    dialect: Dialect
    bars: VenueFaults
    trades: VenueFaults
    markets: VenueFaults
    url: str = ""
    calls: list[Asked] = field(default_factory=list)

    def count(self, tails: Tails = "") -> int:
        """How many calls had a path that ends like this; without, all."""
        return sum(call.path.endswith(tails) for call in self.calls)

    @property
    def bar_calls(self) -> list[Asked]:
        return [call for call in self.calls if call.path.endswith(self.dialect.bars_tail)]

    @property
    def trade_calls(self) -> list[Asked]:
        return [call for call in self.calls if call.path.endswith(self.dialect.trades_tail)]


@asynccontextmanager
async def serve(dialect: Dialect) -> AsyncIterator[LoopbackVenue]:
    """Serves a dialect on 127.0.0.1 while the context is open."""
    plans = [VenueFaults(tails) for tails in (dialect.bars_tail, dialect.trades_tail, dialect.markets_tail)]
    venue = LoopbackVenue(dialect, plans[0], plans[1], plans[2])
    app = web.Application(middlewares=[_noting(venue), *(plan.middleware for plan in plans)])
    for path, reply in dialect.routes().items():
        app.router.add_get(path, _handler(reply))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        venue.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield venue
    finally:
        await runner.cleanup()


def _noting(venue: LoopbackVenue) -> Any:
    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        venue.calls.append(Asked(request.path, dict(request.query)))
        response = await handler(request)
        response.headers.setdefault("Date", formatdate(venue.dialect.clock() // 1000, usegmt=True))
        return response

    return note


def _handler(reply: Reply) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(reply({**request.query, **request.match_info}))
        except Refusal as refusal:
            text = refusal.body if isinstance(refusal.body, str) else json.dumps(refusal.body)
            return web.Response(
                text=text, status=refusal.status, headers=refusal.headers, content_type="application/json"
            )

    return answer
