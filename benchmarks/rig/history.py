"""The thing measured: a real `historyd serve` on an embedded store that was filled before it started."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.rig.bars import MINUTE_US, batches
from benchmarks.rig.pairing import say
from benchmarks.rig.processes import Server, serving
from historyd.coverage import Fact
from historyd.model.page import Layout
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.venue import Origin
from historyd.stores.embedded import open_embedded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGE_ROWS: Final = 1_000
"""What one call of the exchange returns, so what one commit holds."""


def series_of(rows: int) -> str:
    """The id of the series of so many 1m bars."""
    return f"ohlcv:binance:B{rows}/USDT:1m"


@dataclass(frozen=True)
class Shape:
    """How stored bars are laid out, and which host they are said to come from."""

    page_rows: int = PAGE_ROWS
    width_us: int = MINUTE_US
    host: str = "api.binance.com"


def fill(path: Path, sizes: Mapping[str, int], shape: Shape | None = None) -> None:
    """Writes a store in which each series has its number of bars, committed page by page as a backfill would."""
    asyncio.run(_fill(path, sizes, shape or Shape()))


async def _fill(path: Path, sizes: Mapping[str, int], shape: Shape) -> None:
    async with open_embedded(path) as store:
        for text, rows in sizes.items():
            say(f"storing {rows} bars of {text}")
            series = SeriesId.parse(text)
            await store.open_series(series, Origin(shape.host), Layout(shape.page_rows))
            for batch in batches(rows, shape.page_rows, shape.width_us):
                first, last = batch.column(0)[0].value, batch.column(0)[-1].value
                fact = Fact(TimeRange(first, last + shape.width_us), time.time_ns() // 1_000, batch.num_rows)
                await store.commit(series, fact, batch)


@contextmanager
def historyd(path: Path, *, exchange_url: str | None = None, log: bool = False) -> Iterator[tuple[Server, str]]:
    """A server on this store and its address; with an exchange, binance is there, and asking it is free."""
    env = {"HISTORYD_STORE__EMBEDDED__PATH": str(path)}
    if exchange_url is not None:
        # A quota that never binds: what is measured is the machinery, not the waiting.
        unlimited = {"tokens_per_interval": 1_000_000, "interval_ms": 1000, "burst_tokens": 1_000_000}
        env["HISTORYD_EXCHANGES__BINANCE"] = json.dumps({"base_url": exchange_url, "rate_limiter": unlimited})
    with serving("historyd", "serve", "--listen", "127.0.0.1:0", env=env, log=log) as server:
        address = server.ready_line.split("listening on ")[1].split(",")[0]
        yield server, address


@contextmanager
def loopback_exchange() -> Iterator[str]:
    """The URL of an unlimited exchange in a process of its own."""
    with serving("historyd.demo.exchange", "--port", "0") as server:
        yield server.ready_line
