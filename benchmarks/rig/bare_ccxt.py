"""What a backfill is compared with: a loop over ccxt, as its manual shows it, that keeps nothing.

A worker's peer: the exchange's URL is its target. No rate limit, one call after the other, markets loaded before.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

_LIMIT: Final = 1_000
_MINUTE_MS: Final = 60_000


class BareCcxtPeer:
    """Real ccxt's binance, its URLs replaced by the loopback exchange's."""

    def __init__(self, target: str) -> None:
        import ccxt.async_support

        self._loop = asyncio.Runner()
        self._exchange = ccxt.async_support.binance({"enableRateLimit": False})
        self._loop.run(self._connect(target))

    async def _connect(self, target: str) -> None:
        urls = self._exchange.urls["api"]
        for name, url in urls.items():
            if isinstance(url, str):
                path = url.partition("://")[2].partition("/")[2]
                urls[name] = f"{target}/{path}"
        self._exchange.options["fetchMarkets"] = {"types": ["spot"]}
        await self._exchange.load_markets()

    def fetch(self, symbol: str, start_ms: int, rows: int) -> dict[str, Any]:
        """Seconds and rows of a loop over so many 1m bars."""
        return self._loop.run(self._fetch(symbol, start_ms, rows))

    async def _fetch(self, symbol: str, start_ms: int, rows: int) -> dict[str, Any]:
        began, fetched, since = time.perf_counter(), 0, start_ms
        while fetched < rows:
            page = await self._exchange.fetch_ohlcv(symbol, "1m", since, _LIMIT)
            fetched += len(page)
            since = page[-1][0] + _MINUTE_MS
        return {"seconds": time.perf_counter() - began, "rows": fetched}

    def close(self) -> None:
        """Closes its connections."""
        self._loop.run(self._exchange.close())
        self._loop.close()
