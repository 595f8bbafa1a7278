"""The whole in one process: loopback exchange, real ccxt, engine, a real store, gRPC, the public client."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import markethistory.aio
from historyd.app import open_engine
from historyd.config import Config
from historyd.demo.exchange import LoopbackExchange, serve_exchange
from historyd.service.server import HistoryServer
from tests.venue_faults import VenueFaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from historyd.demo.candles import Candles
    from historyd.engine.history import HistoryEngine
    from markethistory.aio import AsyncClient
    from tests.questdb_server import QuestDb

UNLIMITED = {"tokens_per_interval": 1_000_000, "interval_ms": 1000, "max_concurrency": 4}
MINUTE_MS = 60_000


@dataclass
class Whole:
    """Everything that is running."""

    client: AsyncClient
    engine: HistoryEngine
    exchange: LoopbackExchange
    faults: VenueFaults
    address: str


def binance(url: str, **settings: Any) -> dict[str, Any]:
    """Settings that lead binance's calls to the loopback exchange, unlimited unless told otherwise."""
    return {"binance": {"base_url": url, "rate_limiter": UNLIMITED, "retry_backoff_s": 0.001, **settings}}


def in_questdb(questdb: QuestDb) -> dict[str, Any]:
    """The configuration of a store in QuestDB whose tables nobody else has."""
    prefix = f"e{uuid4().hex}"
    return {"questdb": {"dsn": questdb.dsn(), "http": questdb.options().http_url, "table_prefix": prefix}}


@asynccontextmanager
async def whole(
    directory: Path,
    candles: Candles | None = None,
    *,
    alerts: Mapping[str, Any] | None = None,
    store: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Whole]:
    """All of it, on a store in `directory` unless another is configured; `settings` are those of exchange `binance`."""
    faults = VenueFaults()
    async with serve_exchange(candles, middlewares=[faults.middleware]) as exchange:
        config = Config.model_validate(
            {
                "store": store or {"embedded": {"path": str(directory / "history.db")}},
                "alerts": alerts or {},
                "exchanges": binance(exchange.url, **settings),
            }
        )
        async with (
            open_engine(config) as engine,
            HistoryServer(engine, "127.0.0.1:0") as server,
            markethistory.aio.connect(server.address) as client,
        ):
            yield Whole(client, engine, exchange, faults, server.address)
    assert engine.under_way == 0


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """Rows as `(open time in ms, open, high, low, close, volume)`."""
    stamps = [at // 1000 for at in table["ts"].cast("int64").to_pylist()]
    return list(zip(stamps, *(table[name].to_pylist() for name in table.column_names[1:]), strict=True))
