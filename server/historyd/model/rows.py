"""Rows: their Arrow schemas everywhere (source, store, wire), their keys, and those that were set aside.

Bars are ordered by `ts`, unique by `ts`. Trades are ordered by (`ts`, `seq`), unique by (`ts`, `id`).
A null is a value that the exchange did not give; NaN and infinity never get in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from historyd.model.series import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

_TS: Final = pa.field("ts", pa.timestamp("us", tz="UTC"), nullable=False)

BARS: Final = pa.schema([_TS, *(pa.field(name, pa.float64()) for name in ("open", "high", "low", "close", "volume"))])
"""`ts` is the bar's open time."""

TRADES: Final = pa.schema(
    [
        _TS,
        pa.field("seq", pa.int32(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("amount", pa.float64()),
        pa.field("side", pa.string()),
    ]
)
"""`seq` is the ordinal of the trade within its `ts`, from 0; `side` is the taker's, `buy` or `sell`."""

RAW_TRADES: Final = pa.schema([_TS.with_nullable(True), *list(TRADES)[2:]])
"""Trades as a venue said them, in its order, oldest first: no `seq` yet; `ts` is null if it could not be read."""

SCHEMAS: Final[Mapping[Kind, pa.Schema]] = {Kind.OHLCV: BARS, Kind.TRADES: TRADES}

EMPTY: Final[Mapping[Kind, pa.RecordBatch]] = {
    # `pa.nulls` because `pa.array` and `from_pylist` import pandas where it is installed, which takes most of a second.
    kind: pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    for kind, schema in SCHEMAS.items()
}
"""No rows."""
NO_TRADES: Final = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in RAW_TRADES], schema=RAW_TRADES)
"""No trades, as a venue says it."""
BYTES_PER_ROW: Final[Mapping[Kind, int]] = {Kind.OHLCV: 48, Kind.TRADES: 60}
"""What a row takes in the store, about; for estimates."""


@dataclass(frozen=True, slots=True, order=True)
class RowKey:
    """Identifies one row: its time in microseconds and, for trades, its ordinal within that time."""

    ts: int
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that breaks a rule: its time (None if it has none), the rule broken, the row as text (JSON).

    `at` is where a store counts it: its time, or the start of the range asked for if that is not in it; None before.
    """

    ts: int | None
    reason: str
    row: str
    at: int | None = field(default=None, compare=False)
