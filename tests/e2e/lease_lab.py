"""Server processes that share one QuestDB, one Redis and one exchange, whose answer to a page can be held back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from benchmarks.rig.redis_server import redis_server
from historyd.demo.exchange import serve_exchange
from tests.e2e.on_questdb import config_of, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp.typedefs import Handler

    from historyd.demo.exchange import LoopbackExchange
    from markethistory.aio import AsyncClient
    from tests.e2e.serving import Serving
    from tests.questdb_server import QuestDb

SERIES: Final = "ohlcv:binance:BTC/USDT:1m"
START: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""On the grid of hourly pages."""


@dataclass
class Hold:
    """Keeps the exchange's answer to the first call for a page back, until it is let go."""

    page: datetime
    came: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Cluster:
    """What was started, clients in the order of their servers."""

    servers: list[Serving]
    clients: list[AsyncClient]
    exchange: LoopbackExchange

    @property
    def fetches(self) -> Counter[str]:
        """How often each page was asked for; the question for the first bar of all is none."""
        bars = [call.query for call in self.exchange.calls if call.path.endswith("/klines")]
        return Counter(query["startTime"] for query in bars if int(query["startTime"]) > 0)


@asynccontextmanager
async def cluster(folder: Path, questdb: QuestDb, count: int, hold: Hold | None = None) -> AsyncIterator[Cluster]:
    """So many servers, one exchange whose answers take a moment."""

    @web.middleware
    async def answer_late(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        await asyncio.sleep(0.02)
        if hold is not None and request.query.get("startTime") == milliseconds(hold.page) and not hold.came.is_set():
            hold.came.set()
            await hold.let_go.wait()
        return answer

    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_server())
        exchange = await stack.enter_async_context(serve_exchange(middlewares=[answer_late]))
        config = config_of(questdb, exchange.url, f"c{random.getrandbits(60):x}")
        config["connectors"] = {"ccxt_rate_limiter_redis": redis.dsn}
        config["exchanges"]["binance"]["rate_limiter"] = {
            "scope": "cluster",
            "tokens_per_interval": 100,
            "interval_ms": 1_000,
        }
        pairs = await asyncio.gather(*(_begin(stack, folder, number, config) for number in range(count)))
        yield Cluster([server for server, _ in pairs], [client for _, client in pairs], exchange)


async def _begin(
    stack: AsyncExitStack, folder: Path, number: int, config: dict[str, Any]
) -> tuple[Serving, AsyncClient]:
    own = folder / f"server{number}"
    own.mkdir()
    return await started(stack, own, "server", config)


def milliseconds(moment: datetime) -> str:
    """As the exchange writes a time."""
    return str(int(moment.timestamp() * 1000))


def pages(first: int, count: int) -> tuple[datetime, datetime]:
    """When so many pages begin and end."""
    return START + timedelta(hours=first), START + timedelta(hours=first + count)
