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
            "commit_1000_p50_ms": round(statistics.median(self.commits) * 1e3, 3),
            "commit_1000_mean_ms": round(statistics.mean(self.commits) * 1e3, 3),
        }


def run() -> dict[str, object]:
    """Measures every layout; the rows of the table, best read first."""
    return asyncio.run(_measure_all())


async def _measure_all() -> dict[str, object]:
    year = _candles(ROWS)
    dice = random.Random(1)
    with TemporaryDirectory(prefix="store-layout-") as directory:
        async with AsyncExitStack() as stack:
            layouts = [
                await _fill(stack, Path(directory), year, block_rows, codec)
                for block_rows in BLOCK_ROWS
                for codec in CODECS
            ]
            for number in range(ROUNDS):
                print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
                for layout in dice.sample(layouts, len(layouts)):
                    await _read_round(layout)
            table = sorted((layout.row() for layout in layouts), key=lambda row: str(row["codec"]))
            return {"rows": ROWS, "checksum_ms_per_mb": _checksum_cost(), "layouts": table}


async def _fill(
    stack: AsyncExitStack, directory: Path, year: pa.RecordBatch, block_rows: int, codec: str | None
) -> Measured:
    path = directory / f"{block_rows}-{codec}.db"
    form = blocks.BlockForm(full_rows=dict.fromkeys(Kind, block_rows))
    store = await stack.enter_async_context(open_embedded(path, form=form))
    # Frames on the wire are alike for all, so that only the layout differs.
    store._most_rows = dict.fromkeys(Kind, max(FRAME_ROWS, block_rows))  # noqa: SLF001
    measured = Measured(block_rows, codec, store)
    await store.open_series(SERIES, Origin("bench"), Layout(PAGE))
    with patch.object(blocks, "encode", _encoder(codec)):
        for start in range(0, ROWS, PAGE):
            rows = year.slice(start, PAGE)
            window = TimeRange(start * MINUTE, (start + rows.num_rows) * MINUTE)
            began = time.perf_counter()
            await store.commit(SERIES, Fact(window, 10**15, rows.num_rows), rows)
            measured.commits.append(time.perf_counter() - began)
    (listed,) = await store.list_series("*", "", 1)
    measured.bytes_per_row = listed.byte_count / listed.row_count
    began = time.perf_counter()
    await _read_year(store)
    measured.first_read = time.perf_counter() - began
    print(f"filled {block_rows} rows, {codec}: {sum(measured.commits):.2f} s", file=sys.stderr)
    return measured


async def _read_round(layout: Measured) -> None:
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        await _read_year(layout.store)
        layout.reads.append(time.perf_counter() - began)
        layout.cpu.append(time.process_time() - cpu)
    for _ in range(SMALL_READS):
        began = time.perf_counter()
        async for batch in layout.store.read_last(SERIES, 120, ROWS * MINUTE):
            assert batch.num_rows == 120
        layout.lasts.append(time.perf_counter() - began)


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
