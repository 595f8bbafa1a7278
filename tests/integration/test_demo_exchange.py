"""The loopback exchange speaks Binance's dialect: windows, defaults, errors, weights."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from historyd.demo.candles import RandomWalk
from historyd.demo.exchange import serve_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from historyd.demo.exchange import LoopbackExchange

NOW_MS = 1_704_067_230_000
"""Half a minute past 2024-01-01T00:00:00Z."""
MINUTE_MS = 60_000


class Browser:
    """Asks one exchange."""

    def __init__(self, session: aiohttp.ClientSession, exchange: LoopbackExchange) -> None:
        self.session = session
        self.exchange = exchange

    async def get(self, path: str, **query: str | int) -> tuple[int, Any, Any]:
        async with self.session.get(self.exchange.url + path, params=query) as reply:
            return reply.status, await reply.json(), reply.headers

    async def opens(self, **query: str | int) -> list[int]:
        status, rows, _ = await self.get("/api/v3/klines", symbol="BTCUSDT", interval="1m", **query)
        assert status == 200
        return [row[0] for row in rows]


@asynccontextmanager
async def browse(**options: Any) -> AsyncIterator[Browser]:
    options.setdefault("clock", lambda: NOW_MS)
    async with serve_exchange(**options) as exchange, aiohttp.ClientSession() as session:
        yield Browser(session, exchange)


async def test_both_ends_of_a_window_are_inclusive() -> None:
    async with browse() as browser:
        first = NOW_MS // MINUTE_MS * MINUTE_MS - 10 * MINUTE_MS
        assert await browser.opens(startTime=first, endTime=first + 2 * MINUTE_MS) == [
            first,
            first + MINUTE_MS,
            first + 2 * MINUTE_MS,
        ]
        assert await browser.opens(startTime=first + 1, endTime=first + 2 * MINUTE_MS - 1) == [first + MINUTE_MS]


async def test_without_a_start_the_last_bars_come_the_open_one_too() -> None:
    async with browse() as browser:
        opens = await browser.opens()
        assert len(opens) == 500
        assert opens[-1] == NOW_MS // MINUTE_MS * MINUTE_MS
        assert await browser.opens(limit=2) == opens[-2:]
        assert await browser.opens(limit=2, endTime=opens[10]) == opens[9:11]


async def test_at_most_a_thousand_bars_come_and_none_of_the_future() -> None:
    async with browse() as browser:
        assert len(await browser.opens(startTime=NOW_MS - 3000 * MINUTE_MS, limit=5000)) == 1000
        assert await browser.opens(startTime=NOW_MS + 1, endTime=NOW_MS + 10 * MINUTE_MS) == []


async def test_a_start_before_the_listing_gives_the_first_bars() -> None:
    async with browse() as browser:
        assert await browser.opens(startTime=0, limit=1) == [RandomWalk().listed_ms]
        assert await browser.opens(startTime=0, endTime=RandomWalk().listed_ms - 1) == []


async def test_a_bar_ends_a_millisecond_before_the_next() -> None:
    async with browse() as browser:
        _, rows, _ = await browser.get("/api/v3/klines", symbol="BTCUSDT", interval="1M", startTime=0, limit=30)
        assert [row[6] + 1 for row in rows[:-1]] == [row[0] for row in rows[1:]]
        assert len(rows[0]) == 12


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"symbol": "NOPE", "interval": "1m"}, -1121),
        ({"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ({"symbol": "BTCUSDT", "interval": "1m", "startTime": "soon"}, -1100),
    ],
)
async def test_a_bad_question_is_400_with_binances_code(query: dict[str, str], code: int) -> None:
    async with browse() as browser:
        status, body, _ = await browser.get("/api/v3/klines", **query)
        assert (status, body["code"]) == (400, code)


async def test_spent_weight_is_429_until_the_next_minute() -> None:
    now = [NOW_MS]
    async with browse(clock=lambda: now[0], weight_limit=5) as browser:
        used = [(await browser.get("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1)) for _ in range(3)]
        assert [status for status, _, _ in used] == [200, 200, 429]
        assert [headers["X-MBX-USED-WEIGHT-1M"] for _, _, headers in used] == ["2", "4", "6"]
        assert used[2][2]["Retry-After"] == "31"
        now[0] += 31_000
        assert len(await browser.opens(limit=1)) == 1


async def test_calls_are_kept_with_time_path_and_query() -> None:
    async with browse() as browser:
        await browser.opens(limit=3)
        await browser.get("/api/v3/time")
        assert [call.path for call in browser.exchange.calls] == ["/api/v3/klines", "/api/v3/time"]
        assert browser.exchange.calls[0].query["limit"] == "3"
        assert browser.exchange.calls[0].at_ms == NOW_MS
        assert browser.exchange.count("/klines") == 1
        assert (await browser.get("/demo/calls"))[1] == {"/api/v3/klines": 1, "/api/v3/time": 1}


async def test_it_runs_as_a_process_of_its_own_until_it_is_stopped() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "historyd.demo.exchange", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as session, session.get(url + "/api/v3/ping") as reply:
            assert json.loads(await reply.text()) == {}
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
