"""The demo: a month of bars fetched through real CCXT, kept, read back, and asked for again at no cost.

All of it is what a user has (engine, gRPC server, client), but for the exchange, which is the one on loopback, and
the store, which is gone afterwards. The last line of the output is a JSON object with what was measured.
Never does: talk to any other host, touch a store of the user's, or read settings from the environment.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from historyd.app import open_engine
from historyd.config import Config, EmbeddedConfig, ExchangeConfig, StoreConfig
from historyd.demo.candles import RandomWalk
from historyd.demo.exchange import serve_exchange
from historyd.service.server import HistoryServer
from markethistory import aio
from markethistory.values import CoverageState

if TYPE_CHECKING:
    from historyd.demo.exchange import LoopbackExchange

SERIES: Final = "ohlcv:binance:BTC/USDT:1m"
START: Final = datetime(2024, 1, 1, tzinfo=UTC)
END: Final = datetime(2024, 2, 1, tzinfo=UTC)
OUTAGE: Final = (datetime(2024, 1, 17, tzinfo=UTC), datetime(2024, 1, 18, 12, tzinfo=UTC))
"""The exchange was down, for longer than two pages: one at least is confirmed to be empty."""
LISTED: Final = datetime(2023, 6, 1, tzinfo=UTC)
_WEIGHT_A_MINUTE: Final = 6_000
_BARS: Final = (END - START) // timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What the demo measured: rows, calls to the exchange, milliseconds to the first row, rows a second read back."""

    rows: int
    calls_first: int
    calls_second: int
    first_row_ms: float
    read_rows_per_s: int


async def tour(console: Console | None = None) -> Figures:
    """Runs the demo, showing it on a console (default: standard output)."""
    console = console or Console()
    candles = RandomWalk(_ms(LISTED), ((_ms(OUTAGE[0]), _ms(OUTAGE[1])),))
    with tempfile.TemporaryDirectory(prefix="historyd-demo-") as directory:
        async with serve_exchange(candles, weight_limit=_WEIGHT_A_MINUTE) as exchange:
            config = _config(Path(directory) / "demo.db", exchange.url)
            async with open_engine(config) as engine, HistoryServer(engine, config.listen) as server:
                console.print(
                    f"exchange on {exchange.url}, historyd on {server.address}, store in {directory}\n", soft_wrap=True
                )
                async with aio.connect(server.address) as history:
                    figures = await _show(console, history, exchange)
    _tell_what_next(console)
    sys.stdout.write(json.dumps(asdict(figures)) + "\n")
    return figures


def _config(store: Path, exchange_url: str) -> Config:
    # Constructed, not read: the settings of a user's own server in the environment must not lead here.
    return Config.model_construct(
        listen="127.0.0.1:0",
        store=StoreConfig(embedded=EmbeddedConfig(path=store)),
        exchanges={"binance": ExchangeConfig(base_url=exchange_url)},
    )


async def _show(console: Console, history: aio.AsyncClient, exchange: LoopbackExchange) -> Figures:
    console.print(f"[bold]1.[/] {SERIES}, {START:%B %Y}, from the exchange:")
    table, first_row_ms = await _first_ask(console, history)
    calls_first = len(exchange.calls)
    told = f"{calls_first} calls, the first row after {first_row_ms:.0f} ms (most of them to load CCXT and its markets)"
    console.print(f"   {table.num_rows:,} rows, {told}\n")
    await _show_coverage(console, history)
    _show_candles(console, table)
    began = time.perf_counter()
    again = await history.read(SERIES, START, END)
    elapsed_s = time.perf_counter() - began
    calls_second = len(exchange.calls) - calls_first
    assert again.equals(table), "the second ask gave other rows than the first"
    console.print(
        f"[bold]2.[/] asked again: {again.num_rows:,} rows in {elapsed_s * 1000:.0f} ms, {calls_second} calls\n"
    )
    rows_per_s = round(again.num_rows / elapsed_s)
    return Figures(table.num_rows, calls_first, calls_second, round(first_row_ms, 1), rows_per_s)


async def _first_ask(console: Console, history: aio.AsyncClient) -> tuple[pa.Table, float]:
    """Reads the month while it is fetched; the rows and the milliseconds until the first of them."""
    columns = (TextColumn("  "), BarColumn(), MofNCompleteColumn(), TextColumn("bars"), TimeRemainingColumn())
    first_row_ms = 0.0
    batches: list[pa.RecordBatch] = []
    began = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("bars", total=_BARS)
        async for batch in history.read_batches(SERIES, START, END):
            first_row_ms = first_row_ms or (time.perf_counter() - began) * 1000
            batches.append(batch)
            progress.advance(bar, batch.num_rows)
        # The exchange had fewer: it was down for a while.
        progress.update(bar, total=sum(batch.num_rows for batch in batches))
    return pa.Table.from_batches(batches), first_row_ms


async def _show_coverage(console: Console, history: aio.AsyncClient) -> None:
    shown = Table("what is known", "of", "rows", box=None, pad_edge=False)
    for span in await history.coverage(SERIES, LISTED - timedelta(days=1), END + timedelta(days=1)):
        known = "no bars there" if span.state == CoverageState.COVERED and not span.row_count else str(span.state)
        shown.add_row(known, f"{span.range}", f"{span.row_count:,}")
    console.print(shown, "")


def _show_candles(console: Console, table: pa.Table) -> None:
    shown = Table(*table.column_names, box=None, pad_edge=False)
    for row in table.slice(0, 3).to_pylist():
        shown.add_row(f"{row['ts']:%Y-%m-%d %H:%M}", *(f"{row[name]:,.2f}" for name in table.column_names[1:]))
    console.print(shown, "")


def _tell_what_next(console: Console) -> None:
    console.print(
        "Next, against the real Binance (the first line keeps running, the others in a second terminal):",
        soft_wrap=True,
    )
    for name, arguments in (
        ("historyd", "serve"),
        ("markethistory", "read ohlcv:binance:BTC/USDT:1m -s 7d -o btc.parquet"),
        ("markethistory", "coverage ohlcv:binance:BTC/USDT:1m -s 30d"),
    ):
        console.print(f"   {_command(name)} {arguments}", highlight=False, soft_wrap=True)
    console.print()


def _command(name: str) -> str:
    """How to call a program that is installed beside this one, as it is typed here."""
    program = Path(sys.executable).parent / name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
