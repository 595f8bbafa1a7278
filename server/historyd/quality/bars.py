"""Judges the bars of an answer: which are good, which break a rule, whether the answer says anything at all.

Rules for a bar, in the order in which they are tried (the first one broken is the reason given):
`no_timestamp`; `off_grid`: it does not open on the series' grid; `not_finite`: NaN or infinity; `price_not_positive`;
`high_below_body`: high < max(open, close, low); `low_above_body`: low > min(open, close); `negative_volume`;
`superseded`: a later row of the same answer has the same time and other values (an equal one is just dropped).
A null is a value that the exchange did not give and breaks no rule.

Rows outside the window that was asked for are not judged. If there are rows and all lie outside, the venue ignored
the window: that says nothing about the window.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from historyd.model.rows import BARS
from historyd.model.timeframe import FixedGrid
from historyd.quality.verdict import Verdict, set_aside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from historyd.model.time_range import TimeRange
    from historyd.model.timeframe import Grid

_REASONS: Final = (
    "no_timestamp",
    "off_grid",
    "not_finite",
    "price_not_positive",
    "high_below_body",
    "low_above_body",
    "negative_volume",
    "superseded",
)
_GOOD: Final = -1
_DOUBLE: Final = -2
"""Neither good nor bad: an equal row follows, and that one is kept."""


def judge_bars(rows: pa.RecordBatch, window: TimeRange, grid: Grid) -> Verdict:
    """Judges the raw rows (schema `BARS`, but `ts` may be null) that answered a question for `window`."""
    stamps = rows.column(0).cast(pa.int64())
    stamped = stamps.is_valid().to_numpy(zero_copy_only=False)
    times = stamps.fill_null(-1).to_numpy()
    inside = stamped & (times >= window.start) & (times < window.end)
    judged = np.flatnonzero(inside | ~stamped)
    order = judged[np.argsort(times[judged], kind="stable")]
    chosen = rows.take(pa.array(order, pa.int64()))
    codes = _judge(times[order], stamped[order], chosen, grid)
    good = chosen.filter(pa.array(codes == _GOOD))
    return Verdict(
        pa.RecordBatch.from_arrays(good.columns, schema=BARS),
        tuple(set_aside(chosen, int(at), _REASONS[codes[at]]) for at in np.flatnonzero(codes >= 0)),
        ignored_window=bool(stamped.any() and not inside.any()),
    )


def _values(rows: pa.RecordBatch) -> NDArray[np.float64]:
    """Open, high, low, close, volume as float64[5, n]; a null becomes NaN."""
    return np.stack([column.to_numpy(zero_copy_only=False) for column in rows.columns[1:]])


def _judge(times: NDArray[np.int64], stamped: NDArray[np.bool_], rows: pa.RecordBatch, grid: Grid) -> NDArray[np.int64]:
    """The code of each row: `_GOOD`, `_DOUBLE` or the index of the first rule broken. Rows are in time order."""
    values = _values(rows)
    opens, highs, lows, closes, volumes = values
    # Comparisons with NaN are false, so what the exchange did not give breaks no rule.
    broken = [
        ~stamped,
        ~_on_grid(times, grid),
        np.isinf(values).any(axis=0) | _has_nan(rows, values),
        (values[:4] <= 0).any(axis=0),
        (highs < opens) | (highs < closes) | (highs < lows),
        (lows > opens) | (lows > closes),
        volumes < 0,
    ]
    codes = np.select(broken, range(len(broken)), default=_GOOD).astype(np.int64)
    return _drop_doubles(times, values, codes)


def _has_nan(rows: pa.RecordBatch, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a value is NaN and not null, which look alike in `values`."""
    nan = np.isnan(values)
    if nan.any():
        given = np.stack([column.is_valid().to_numpy(zero_copy_only=False) for column in rows.columns[1:]])
        nan &= given
    return np.asarray(nan.any(axis=0))


def _on_grid(times: NDArray[np.int64], grid: Grid) -> NDArray[np.bool_]:
    if isinstance(grid, FixedGrid):
        return np.asarray((times - grid.anchor) % grid.width == 0)
    return np.fromiter((grid.floor(int(time)) == time for time in times), np.bool_, len(times))


def _drop_doubles(times: NDArray[np.int64], values: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of good rows with one time the last is kept; an equal one before it is dropped, another one superseded."""
    good = np.flatnonzero(codes == _GOOD)
    for pair in np.flatnonzero(times[good[:-1]] == times[good[1:]]):
        earlier, later = good[pair], good[pair + 1]
        equal = np.array_equal(values[:, earlier], values[:, later], equal_nan=True)
        codes[earlier] = _DOUBLE if equal else _REASONS.index("superseded")
    return codes
