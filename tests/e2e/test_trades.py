"""Trades from a real `historyd serve` on a loopback exchange: by the client, the command line and plain gRPC."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import markethistory.aio
from historyd.demo.exchange import serve_exchange
from historyd.model.rows import TRADES
from markethistory.errors import MarketHistoryError
from markethistory.retry import RetryPolicy
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.history_service_pb2_grpc import HistoryServiceStub
from tests.e2e.serving import serve_process
from tests.e2e.test_client_cli import markethistory_command
from tests.venue_faults import VenueFaults, holding, passing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from historyd.demo.exchange import LoopbackExchange
    from historyd.demo.trades import Trade
    from tests.e2e.serving import Serving

pytestmark = pytest.mark.slow

SERIES: Final = "trades:binance:BTC/USDT"
START: Final = datetime(2024, 1, 1, tzinfo=UTC)
END: Final = START + timedelta(hours=2)
WINDOW: Final = ("--start", "2024-01-01T00:00:00Z", "--end", "2024-01-01T02:00:00Z")


def happened(exchange: LoopbackExchange, end: datetime = END) -> list[tuple[Any, ...]]:
    """What the exchange has of the window, as rows."""
    first_ms, end_ms = (int(edge.timestamp() * 1000) for edge in (START, end))
    return rows_of(exchange.trades.between("BTCUSDT", first_ms, end_ms - 1, 1_000_000))


def rows_of(trades: Iterable[Trade]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for number, at_ms, price, amount, sold in trades:
        seq = rows[-1][1] + 1 if rows and rows[-1][0] == at_ms * 1000 else 0
        rows.append((at_ms * 1000, seq, str(number), float(price), float(amount), "sell" if sold else "buy"))
    return rows


def plain(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [table["ts"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()), *table.columns[1:]]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


async def test_trades_are_read_written_to_files_and_cost_nothing_twice(
    connected: Serving, exchange: LoopbackExchange, tmp_path: Path
) -> None:
    wanted = happened(exchange)
    assert len(wanted) == 4800
    async with markethistory.aio.connect(connected.address) as history:
        table = await history.read(SERIES, START, END)
        assert table.schema == TRADES
        assert plain(table) == wanted
        calls = exchange.count("aggTrades")
        narrow = await history.read(SERIES, START, END, columns=["side", "price"])
        last = await history.last(SERIES, 7, end=END)
    assert narrow.column_names == ["ts", "price", "side"]
    assert narrow.equals(table.select(["ts", "price", "side"]))
    assert plain(last) == wanted[-7:]
    readers = {
        "t.parquet": pq.read_table,
        "t.arrow": lambda file: pa.ipc.open_file(file).read_all(),
        "t.csv": lambda file: pyarrow.csv.read_csv(
            file, convert_options=pyarrow.csv.ConvertOptions(column_types={"id": pa.string()})
        ),
    }
    for name, read in readers.items():
        done = await markethistory_command(connected, "read", SERIES, *WINDOW, "-o", str(tmp_path / name))
        assert (done.code, done.err) == (0, "")
        assert plain(read(tmp_path / name)) == wanted
    listed = await markethistory_command(connected, "series", "--json")
    assert SERIES in listed.out
    assert exchange.count("aggTrades") == calls


async def test_a_stream_is_resumed_between_two_trades_of_one_time(
    connected: Serving, exchange: LoopbackExchange
) -> None:
    wanted = happened(exchange)
    twin = next(at for at, row in enumerate(wanted) if row[1] == 1)
    window = pb.ReadRangeRequest(series=SERIES, ensure=True)
    window.range.start.FromDatetime(START)
    window.range.end.FromDatetime(END)
    async with grpc.aio.insecure_channel(connected.address) as channel:
        whole = [message async for message in HistoryServiceStub(channel).ReadRange(window)]
        assert plain(pa.ipc.open_stream(b"".join(part.arrow_ipc for part in whole)).read_all()) == wanted
        for compression in (pb.COMPRESSION_UNSPECIFIED, pb.COMPRESSION_LZ4, pb.COMPRESSION_ZSTD):
            request = pb.ReadRangeRequest(compression=compression)
            request.MergeFrom(window)
            request.resume_after.ts.FromMicroseconds(wanted[twin - 1][0])
            request.resume_after.seq = 0
            messages = [message async for message in HistoryServiceStub(channel).ReadRange(request)]
            table = pa.ipc.open_stream(b"".join(message.arrow_ipc for message in messages)).read_all()
            assert plain(table) == wanted[twin:]
            keys = [message.last_key for message in messages if message.row_count]
            assert (keys[-1].ts.ToMicroseconds(), keys[-1].seq) == wanted[-1][:2]
            assert messages[-1].summary.complete


async def test_a_server_killed_at_any_call_loses_and_doubles_no_trade(tmp_path: Path) -> None:
    """Killed twice while a call is at the exchange, some calls after the start; the third one finishes."""
    faults = VenueFaults("/aggTrades")
    async with serve_exchange(middlewares=[faults.middleware]) as exchange:
        options = f"{{base_url: '{exchange.url}', window_size: 100}}"
        (tmp_path / "historyd.yaml").write_text(f"exchanges: {{binance: {options}}}\n")
        for answered in (3, 14):
            reached = asyncio.Event()
            faults.next(passing(), times=answered)
            faults.next(holding(reached))
            async with serve_process(tmp_path, "--config", "historyd.yaml") as serving:
                asking = asyncio.create_task(_ensure(serving.address))
                await reached.wait()
                await serving.stop(SIGKILL)
                await asking
            faults.forget()
        async with (
            serve_process(tmp_path, "--config", "historyd.yaml") as serving,
            markethistory.aio.connect(serving.address) as history,
        ):
            assert plain(await history.read(SERIES, START, END)) == happened(exchange)


async def _ensure(address: str) -> None:
    never = RetryPolicy(attempts=1)
    async with markethistory.aio.connect(address, retry=never) as history:
        with suppress(MarketHistoryError):
            await history.ensure(SERIES, START, END)
