"""Arrow tables -> the data frames that qmtl takes: polars or pandas, `ts` in whole seconds.

Columns of bars: `ts` int64, `open`, `high`, `low`, `close`, `volume` float64. Of trades: `ts` int64, `price`,
`amount` float64, `side` string. An empty table becomes an empty frame with these columns.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

FrameLibrary: TypeAlias = Literal["polars", "pandas"]

_LIBRARIES: Final[tuple[FrameLibrary, ...]] = ("polars", "pandas")
_OHLCV: Final = ("open", "high", "low", "close", "volume")
_TRADES: Final = ("price", "amount", "side")
_MICROS_PER_S: Final = 1_000_000


def frame_library(wanted: FrameLibrary | None) -> FrameLibrary:
    """The library wanted, else polars if it is installed, else pandas.

    Raises ValueError for another name, ImportError if it is not installed.
    """
    if wanted is not None and wanted not in _LIBRARIES:
        raise ValueError(f"frame: {wanted!r} is none of {', '.join(_LIBRARIES)}")
    for library in (wanted,) if wanted is not None else _LIBRARIES:
        if find_spec(library) is not None:
            return library
    raise ImportError(f"qmtl's frames need {wanted or 'polars or pandas'}: pip install {wanted or 'polars'}")


def columns_of(series: str) -> tuple[str, ...]:
    """The columns to read for a series, `ts` apart."""
    return _TRADES if series.startswith("trades:") else _OHLCV


def to_frame(table: pa.Table, library: FrameLibrary) -> Any:
    """The table as a frame; `ts` is rounded down to the second, its time zone is UTC."""
    seconds = pc.divide(table.column("ts").cast(pa.int64()), _MICROS_PER_S)
    plain = table.set_column(0, pa.field("ts", pa.int64()), seconds).replace_schema_metadata(None)
    if library == "polars":
        import polars as pl  # noqa: PLC0415 -- only who asks for it needs it

        return pl.from_arrow(plain)
    return plain.to_pandas()


def empty_table(series: str) -> pa.Table:
    """No rows, with the columns that a series of this kind has."""
    values = [(name, pa.string() if name == "side" else pa.float64()) for name in columns_of(series)]
    return pa.schema([("ts", pa.timestamp("us", "UTC")), *values]).empty_table()
