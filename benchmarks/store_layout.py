"""How the embedded store should lay its rows down: block size and compression, measured on the store itself.

Each layout is filled page by page (1,000 bars a commit, a year of minutes), then all are read in turn, in random
order each round. The table in docs/embedded-store.md comes from here.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest.mock import patch

import pyarrow as pa

from historyd.coverage import Fact
from historyd.model.page import Layout
from historyd.model.rows import BARS
from historyd.model.series import Kind, SeriesId
from historyd.model.time_range import MICROS_PER_S, TimeRange
from historyd.model.venue import Origin
from historyd.stores import blocks
from historyd.stores.embedded import EmbeddedStore, open_embedded

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE = 60 * MICROS_PER_S
ROWS = 525_600
PAGE = 1_000
FRAME_ROWS = 20_480
BLOCK_ROWS = (1_024, 4_096, 16_384, 65_536)
CODECS = (None, "lz4", "zstd")
ROUNDS = 9
SMALL_READS = 200
SERIES = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")


@dataclass
class Measured:
    """One layout: its store and what was measured of it, times in seconds."""

    block_rows: int
    codec: str | None
    store: EmbeddedStore
    commits: list[float] = field(default_factory=list)
    first_read: float = 0.0
    reads: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    lasts: list[float] = field(default_factory=list)
    middles: list[float] = field(default_factory=list)
    bytes_per_row: float = 0.0

    def row(self) -> dict[str, object]:
        """The figures of this layout."""
        read = statistics.median(self.reads)
        return {
            "block_rows": self.block_rows,
            "codec": self.codec or "none",
            "mrows_per_s": round(ROWS / read / 1e6, 1),
            "read_ms": round(read * 1e3, 2),
            "read_cpu_ms": round(statistics.median(self.cpu) * 1e3, 2),
            "first_read_ms": round(self.first_read * 1e3, 2),
            "bytes_per_row": round(self.bytes_per_row, 1),
            "last_120_p50_ms": round(statistics.median(self.lasts) * 1e3, 3),
            "any_120_p50_ms": round(statistics.median(self.middles) * 1e3, 3),
            "commit_1000_p50_ms": round(statistics.median(self.commits) * 1e3, 3),
            "commit_1000_mean_ms": round(statistics.mean(self.commits) * 1e3, 3),
        }


def run() -> dict[str, object]:
    """Measures every layout; the rows of the table."""
    return asyncio.run(_measure_all())


async def _measure_all() -> dict[str, object]:
    year = _candles(ROWS)
    dice = random.Random(1)
    with TemporaryDirectory(prefix="store-layout-") as directory:
        async with AsyncExitStack() as stack:
            layouts = [
                await _open(stack, Path(directory), block_rows, codec) for block_rows in BLOCK_ROWS for codec in CODECS
            ]
            print("filling", file=sys.stderr)
            for start in range(0, ROWS, PAGE):
                for layout in dice.sample(layouts, len(layouts)):
                    await _commit(layout, year, start)
            for layout in layouts:
                await _first_read(layout)
            for number in range(ROUNDS):
                print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
                for layout in dice.sample(layouts, len(layouts)):
                    await _read_round(layout, dice)
            return {"rows": ROWS, "checksum_ms_per_mb": _checksum_cost(), "layouts": [one.row() for one in layouts]}


async def _open(stack: AsyncExitStack, directory: Path, block_rows: int, codec: str | None) -> Measured:
    form = blocks.BlockForm(full_rows=dict.fromkeys(Kind, block_rows))
    store = await stack.enter_async_context(open_embedded(directory / f"{block_rows}-{codec}.db", form=form))
    # Frames on the wire are alike for all, so that only the layout differs.
    store._reader._most_rows = dict.fromkeys(Kind, max(FRAME_ROWS, block_rows))  # noqa: SLF001
    await store.open_series(SERIES, Origin("bench"), Layout(PAGE))
    return Measured(block_rows, codec, store)


async def _commit(layout: Measured, year: pa.RecordBatch, start: int) -> None:
    rows = year.slice(start, PAGE)
    window = TimeRange(start * MINUTE, (start + rows.num_rows) * MINUTE)
    with patch.object(blocks, "encode", _encoder(layout.codec)):
        began = time.perf_counter()
        await layout.store.commit(SERIES, Fact(window, 10**15, rows.num_rows), rows)
        layout.commits.append(time.perf_counter() - began)


async def _first_read(layout: Measured) -> None:
    """The one that checks the blocks' checksums."""
    (listed,) = await layout.store.list_series("*", "", 1)
    layout.bytes_per_row = listed.byte_count / listed.row_count
    began = time.perf_counter()
    await _read_year(layout.store)
    layout.first_read = time.perf_counter() - began


async def _read_round(layout: Measured, dice: random.Random) -> None:
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        await _read_year(layout.store)
        layout.reads.append(time.perf_counter() - began)
        layout.cpu.append(time.process_time() - cpu)
    for _ in range(SMALL_READS):
        layout.lasts.append(await _time_small_read(layout.store, ROWS))
        layout.middles.append(await _time_small_read(layout.store, dice.randint(120, ROWS)))


async def _time_small_read(store: EmbeddedStore, before: int) -> float:
    began = time.perf_counter()
    count = sum([batch.num_rows async for batch in store.read_last(SERIES, 120, before * MINUTE)])
    assert count == 120
    return time.perf_counter() - began


async def _read_year(store: EmbeddedStore) -> None:
    """As a server does: each batch is done with before the next is taken."""
    count = 0
    async for batch in store.read(SERIES, TimeRange(0, ROWS * MINUTE)):
        count += batch.num_rows
    assert count == ROWS


def _encoder(codec: str | None) -> Callable[[pa.RecordBatch], pa.Buffer]:
    if codec is None:
        return blocks.encode
    options = pa.ipc.IpcWriteOptions(compression=codec)

    def encode(batch: pa.RecordBatch) -> pa.Buffer:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
        messages.read_next_message()
        return messages.read_next_message().serialize()

    return encode


def _checksum_cost() -> float:
    content = random.Random(2).randbytes(1 << 20)
    began = time.perf_counter()
    for _ in range(200):
        blocks.checksum(content)
    return round((time.perf_counter() - began) / 200 * 1e3, 3)


def _candles(count: int) -> pa.RecordBatch:
    """A walk of prices in cents and volumes of five places, as exchanges give them."""
    dice = random.Random(3)
    cents = 4_000_000
    columns: list[list[float]] = [[], [], [], [], []]
    for _ in range(count):
        opened = cents
        cents = max(100, cents + dice.randint(-3_000, 3_000))
        high = max(opened, cents) + dice.randint(0, 1_000)
        low = min(opened, cents) - dice.randint(0, 1_000)
        values = (opened / 100, high / 100, low / 100, cents / 100, round(dice.expovariate(0.1), 5))
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    stamps = pa.array(range(0, count * MINUTE, MINUTE), pa.int64()).cast(BARS.field("ts").type)
    return pa.RecordBatch.from_arrays([stamps, *map(pa.array, columns)], schema=BARS)
