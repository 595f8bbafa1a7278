"""`kill -9` of the server at any page of a backfill: what was committed stays, only the rest is asked for again."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pytest

import markethistory.aio
from historyd.app import open_engine
from historyd.config import Config
from historyd.demo.candles import RandomWalk
from historyd.demo.exchange import serve_exchange
from historyd.engine.backfill import LOOKAHEAD
from historyd.service.server import HistoryServer
from markethistory.errors import MarketHistoryError
from markethistory.retry import RetryPolicy
from markethistory.values import CoverageState
from tests.e2e.serving import serve_process
from tests.e2e.whole import UNLIMITED, binance, rows_of
from tests.source_lab import floats
from tests.venue_faults import VenueFaults

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.demo.exchange import LoopbackExchange
    from markethistory.aio import AsyncClient
    from tests.venue_faults import Gate

pytestmark = pytest.mark.slow

SERIES = "ohlcv:binance:BTC/USDT:1m"
PAGES, PAGE_BARS = 8, 60
PROBES = 2
START = datetime(2024, 1, 1, tzinfo=UTC)  # on the grid of hourly pages
END = START + timedelta(minutes=PAGES * PAGE_BARS)
START_MS = int(START.timestamp() * 1000)
WANTED = floats(RandomWalk().bars("BTCUSDT", "1m", START_MS, START_MS + (PAGES * PAGE_BARS - 1) * 60_000, 10_000))


async def ask_until_killed(client: AsyncClient) -> None:
    with suppress(MarketHistoryError):
        await client.ensure(SERIES, START, END)


def pages_asked(exchange: LoopbackExchange) -> int:
    return sum(call.query.get("limit") == str(PAGE_BARS) for call in exchange.calls)


async def kill_at_call(directory: Path, exchanges: dict[str, Any], gates: list[Gate]) -> None:
    """Has a server backfill and kills it when its last gated call is at the exchange."""
    (directory / "config.yaml").write_text(json.dumps({"exchanges": exchanges}))
    for gate in gates[:-1]:
        gate.open()
    never = RetryPolicy(attempts=1)
    async with (
        serve_process(directory, "--config", "config.yaml") as server,
        markethistory.aio.connect(server.address, retry=never) as client,
    ):
        asking = asyncio.create_task(ask_until_killed(client))
        await gates[-1].reached.wait()
        await server.stop(SIGKILL)
        gates[-1].open()
        await asking


@pytest.mark.parametrize("call", range(PAGES + PROBES))
async def test_a_server_killed_at_any_page_asks_only_for_what_it_had_not_kept(tmp_path: Path, call: int) -> None:
    """The server is killed when its call number `call` is at the exchange; the first ones seek the first bar."""
    faults = VenueFaults()
    async with serve_exchange(middlewares=[faults.middleware]) as exchange:
        exchanges = binance(exchange.url, window_size=PAGE_BARS, rate_limiter={**UNLIMITED, "max_concurrency": 1})
        await kill_at_call(tmp_path, exchanges, [faults.gate() for _ in range(call + 1)])
        store = {"embedded": {"path": str(tmp_path / "markethistory.db")}}
        config = Config.model_validate({"store": store, "exchanges": exchanges})
        async with (
            open_engine(config) as engine,
            HistoryServer(engine, "127.0.0.1:0") as restarted,
            markethistory.aio.connect(restarted.address) as client,
        ):
            spans = await client.coverage(SERIES, START, END)
            kept = sum(span.row_count for span in spans if span.state is CoverageState.COVERED) // PAGE_BARS
            assert kept >= call - PROBES - LOOKAHEAD, "pages answered before, but for those being committed"
            asked = pages_asked(exchange)
            result = await client.ensure(SERIES, START, END)
            assert result.page_count == pages_asked(exchange) - asked == PAGES - kept
            assert rows_of(await client.read(SERIES, START, END, ensure=False, require_complete=True)) == WANTED
    with closing(sqlite3.connect(tmp_path / "markethistory.db")) as con:
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
