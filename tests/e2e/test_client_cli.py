"""The `markethistory` command and the Python client against a real `historyd serve` on a loopback exchange."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

import markethistory.aio
from markethistory import CoverageState, NotFound

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.demo.exchange import LoopbackExchange
    from tests.e2e.serving import Serving

SERIES = "ohlcv:binance:BTC/USDT:1m"
HOURLY = "ohlcv:binance:ETH/USDT:1h"
DAY = ("--start", "2024-01-01", "--end", "2024-01-02")


@dataclass
class Done:
    """How a command ended."""

    code: int | None
    out: str
    err: str


async def markethistory_command(serving: Serving, *words: str) -> Done:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from markethistory.cli import main; main()", *words, "--server", serving.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())


@pytest.mark.slow
async def test_a_first_visit(connected: Serving, exchange: LoopbackExchange, tmp_path: Path) -> None:
    """Plan, fetch, look, write, list: what a person does; the second ask costs the exchange nothing."""
    planned = await markethistory_command(connected, "ensure", SERIES, *DAY, "--plan", "--json")
    assert json.loads(planned.out)["call_count"] > 0
    before = exchange.count("klines")
    fetched = await markethistory_command(connected, "ensure", SERIES, HOURLY, *DAY, "--json")
    assert (fetched.code, fetched.err) == (0, "")
    assert [json.loads(line)["uncovered"] for line in fetched.out.splitlines()] == [[], []]
    calls = exchange.count("klines")
    assert calls > before
    file = str(tmp_path / "{}.parquet")
    written = await markethistory_command(connected, "read", SERIES, HOURLY, *DAY, "-o", file)
    assert (written.code, written.err) == (0, "")
    assert pq.read_table(tmp_path / "ohlcv_binance_BTC_USDT_1m.parquet").num_rows == 1440
    assert pq.read_table(tmp_path / "ohlcv_binance_ETH_USDT_1h.parquet").num_rows == 24
    assert exchange.count("klines") == calls
    listed = await markethistory_command(connected, "series", "--json")
    assert [json.loads(line)["series"] for line in listed.out.splitlines()] == [SERIES, HOURLY]
    covered = await markethistory_command(connected, "coverage", SERIES, *DAY, "--json")
    [span] = json.loads(covered.out)["spans"]
    assert (span["state"], span["row_count"]) == ("covered", 1440)


async def test_a_misspelt_symbol_is_told_with_the_right_one(connected: Serving) -> None:
    done = await markethistory_command(connected, "read", "ohlcv:binance:BTCUSDT:1m", *DAY)
    assert done.code == 1
    assert "did you mean 'BTC/USDT'" in done.err
    assert done.err.count("\n") == 1


async def test_the_client_reads_what_the_exchange_has(connected: Serving, exchange: LoopbackExchange) -> None:
    """Rows by read, by batches and by last agree, and a second read makes no call."""
    async with markethistory.aio.connect(connected.address) as history:
        table = await history.read(SERIES, "2024-01-01", "2024-01-03")
        calls = exchange.count("klines")
        stream = history.read_batches(SERIES, "2024-01-01", "2024-01-03")
        batches = [batch async for batch in stream]
        last = await history.last(SERIES, 100, end="2024-01-03")
        spans = await history.coverage(SERIES, "2024-01-01", "2024-01-03")
        with pytest.raises(NotFound) as caught:
            await history.read("ohlcv:binance:BTCUSDT:1m", "2024-01-01", "2024-01-02")
    assert table.num_rows == 2880
    assert sum(batch.num_rows for batch in batches) == 2880
    assert stream.summary.complete
    assert last.equals(table.slice(2780).combine_chunks())
    assert exchange.count("klines") == calls
    assert [span.state for span in spans] == [CoverageState.COVERED]
    assert "BTC/USDT" in caught.value.nearest


async def test_markets_are_listed(connected: Serving) -> None:
    async with markethistory.aio.connect(connected.address) as history:
        found = await history.markets("binance", "BTC/*")
    assert {market.symbol for market in found.markets} == {"BTC/USDT", "BTC/USDT:USDT"}
    assert found.timeframes[0] == "1s"
