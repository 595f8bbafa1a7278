"""Judges the trades of an answer: which are good, which break a rule, in which order they stand.

Rules for a trade, in the order in which they are tried (the first one broken is the reason given):
`no_timestamp`; `not_finite`: NaN or infinity; `price_not_positive`; `amount_not_positive`; `superseded`: a later row
of the same answer has the same time and id and other values (an equal one is just dropped). A null is a value that
the exchange did not give and breaks no rule; so is a side that is neither `buy` nor `sell`.

Good trades are ordered by time, those of one time as the answer has them, and numbered within it (`seq`). A trade
without an id gets one made of its content and its ordinal among its like of that time, so that it has the same one
whenever that time is asked for. Rows outside of the window are not judged: they say nothing.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from historyd.model.rows import EMPTY, TRADES
from historyd.model.series import Kind
from historyd.quality.verdict import Verdict, set_aside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from historyd.model.time_range import TimeRange

_REASONS: Final = ("no_timestamp", "not_finite", "price_not_positive", "amount_not_positive", "superseded")
_GOOD: Final = -1
_DOUBLE: Final = -2
"""Neither good nor bad: an equal row was kept."""


def judge_trades(rows: pa.RecordBatch, window: TimeRange) -> Verdict:
    """Judges the raw trades (schema `RAW_TRADES`) of an answer that has all trades of `window`."""
    stamps = rows.column(0).cast(pa.int64())
    stamped = stamps.is_valid().to_numpy(zero_copy_only=False)
    times = stamps.fill_null(-1).to_numpy()
    judged = np.flatnonzero(~stamped | ((times >= window.start) & (times < window.end)))
    if not len(judged):
        return Verdict(EMPTY[Kind.TRADES])
    order = judged[np.argsort(times[judged], kind="stable")]
    chosen, times = rows.take(pa.array(order, pa.int64())), times[order]
    ids = _named(times, chosen)
    codes = _judge(times, ids, chosen)
    good = np.flatnonzero(codes == _GOOD)
    return Verdict(
        _numbered(times[good], [ids[at] for at in good], chosen.take(pa.array(good, pa.int64()))),
        tuple(set_aside(chosen, int(at), _REASONS[codes[at]]) for at in np.flatnonzero(codes >= 0)),
    )


def _judge(times: NDArray[np.int64], ids: list[str], rows: pa.RecordBatch) -> NDArray[np.int64]:
    """The code of each row: `_GOOD`, `_DOUBLE` or the index of the first rule broken. Rows are in time order."""
    prices, amounts = (rows.column(name).to_numpy(zero_copy_only=False) for name in ("price", "amount"))
    # Comparisons with NaN are false, so what the exchange did not give breaks no rule.
    broken = [
        times < 0,
        _senseless(rows.column("price"), prices) | _senseless(rows.column("amount"), amounts),
        prices <= 0,
        amounts <= 0,
    ]
    codes = np.select(broken, range(len(broken)), default=_GOOD).astype(np.int64)
    return _drop_doubles(times, ids, rows, codes)


def _senseless(column: pa.Array, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a value is NaN or infinite and not null, which looks like NaN in `values`."""
    given = column.is_valid().to_numpy(zero_copy_only=False)
    return np.asarray(given & ~np.isfinite(values))


def _drop_doubles(
    times: NDArray[np.int64], ids: list[str], rows: pa.RecordBatch, codes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of good rows with one time and id the last one's values are kept, in the first one's place if they are equal."""
    seen: dict[tuple[int, str], int] = {}
    values = list(zip(*(rows.column(name).to_pylist() for name in ("price", "amount", "side")), strict=True))
    for at in np.flatnonzero(codes == _GOOD).tolist():
        key = (int(times[at]), ids[at])
        earlier = seen.get(key)
        if earlier is not None and values[earlier] == values[at]:
            codes[at] = _DOUBLE
            continue
        if earlier is not None:
            codes[earlier] = _REASONS.index("superseded")
        seen[key] = at
    return codes


def _named(times: NDArray[np.int64], rows: pa.RecordBatch) -> list[str]:
    """The ids, those that are missing made up."""
    ids = rows.column("id").to_pylist()
    if all(ids):
        return list(ids)
    alike: defaultdict[tuple[int, str], int] = defaultdict(int)
    contents = zip(*(rows.column(name).to_pylist() for name in ("price", "amount", "side")), strict=True)
    named: list[str] = []
    for time, text, (price, amount, side) in zip(times.tolist(), ids, contents, strict=True):
        content = f"{price}x{amount}{side or ''}"
        named.append(text or f"{content}#{alike[time, content]}")
        alike[time, content] += not text
    return named


def _numbered(times: NDArray[np.int64], ids: list[str], rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows in the schema `TRADES`, numbered within each time."""
    places = np.arange(len(times))
    begins = np.concatenate([[True], times[1:] != times[:-1]]) if len(times) else np.zeros(0, np.bool_)
    ordinals = places - np.maximum.accumulate(np.where(begins, places, 0))
    columns = [
        pa.array(times, pa.int64()).cast(TRADES.field("ts").type),
        pa.array(ordinals, pa.int32()),
        pa.array(ids, pa.string()),
        *(rows.column(name) for name in ("price", "amount", "side")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TRADES)
