"""The rows that all peers serve: believable 1m bars, the same in every process, in batches of one wire frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_PER_ROW: Final = 48
BATCH_ROWS: Final = 20_000
"""A batch is 0.96 MB, the size that serves Flight and gRPC best (messages of 1 MiB)."""
END: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The first instant after the last bar."""
MINUTE_US: Final = 60_000_000
SCHEMA: Final = pa.schema(
    [
        pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("open", "high", "low", "close", "volume")),
    ]
)


def start_of(rows: int, width_us: int = MINUTE_US) -> datetime:
    """Open time of the first of so many bars that end at END."""
    return END - timedelta(microseconds=rows * width_us)


def batches(rows: int, batch_rows: int = BATCH_ROWS, width_us: int = MINUTE_US) -> Iterator[pa.RecordBatch]:
    """So many bars that end at END, ascending, in batches of `batch_rows` (the last may be smaller)."""
    random = np.random.default_rng(7)
    first = int(start_of(rows, width_us).timestamp()) * 1_000_000
    level = 30_000.0
    for offset in range(0, rows, batch_rows):
        count = min(batch_rows, rows - offset)
        closes = level + np.cumsum(random.normal(0, 5, count))
        opens = np.concatenate(([level], closes[:-1]))
        spread = np.abs(random.normal(0, 3, count))
        columns = [
            first + (offset + np.arange(count, dtype=np.int64)) * width_us,
            opens,
            np.maximum(opens, closes) + spread,
            np.minimum(opens, closes) - spread,
            closes,
            np.abs(random.normal(10, 4, count)),
        ]
        level = float(closes[-1])
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        yield pa.record_batch(arrays, schema=SCHEMA)


def table(rows: int) -> pa.Table:
    """So many bars that end at END, one chunk a batch."""
    return pa.Table.from_batches(batches(rows), SCHEMA)
