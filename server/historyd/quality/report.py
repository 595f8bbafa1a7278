"""Reports how good the stored bars of a series are, day by day: what is there, what should be, what looks wrong.

The terms are those of the contract (quality.proto). A day is one of UTC, clipped to the range that is reported on.
`bars of the grid = expected + empty + pending`, and `expected = rows + spoiled + missing + unreachable`.

Outliers: with r = ln(close / close of the row before), m the median of r and s a robust standard deviation (0.608 times
the 90th percentile of |r - m|; where that is 0, as in a market that mostly stands still, 1.2533 times its mean), a bar
is one if |r - m| > 10 s. Both are taken over the day and the `BASE_ROWS` rows before it, so that a day of few bars is
held against its past. The median of |r - m|, which is more usual, says little where half of the closes repeat the one
before: of Coinbase's BTC-USD minutes of 17 December 2017 it makes 389 outliers, this none.

Pure: no clock, no I/O. All ranges half-open, all instants in microseconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from historyd.coverage import State
from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_MS, TimeRange
from historyd.model.timeframe import FixedGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from historyd.coverage import Span
    from historyd.model.rows import Quarantined
    from historyd.model.timeframe import Grid

BASE_ROWS: Final = 500
"""Rows before a day that its outliers are held against."""
FEWEST_RETURNS: Final = 20
"""Fewer returns than this are not judged."""
FAR: Final = 10.0
"""How many robust standard deviations from the median an outlier is."""
_DECILE: Final = 0.9
_FROM_DECILE: Final = 0.608
_FROM_MEAN: Final = 1.2533
"""What makes the 90th percentile and the mean of absolute deviations the standard deviation of normal values."""
_NO_BAR: Final = frozenset(("no_timestamp", "off_grid"))
"""Rows set aside for these reasons are of no bar of the grid."""


@dataclass(frozen=True, slots=True)
class Bars:
    """The stored bars of a day: times ascending, `closes` and `volumes` with NaN where there is no value.

    `base_closes` are those of the `BASE_ROWS + 1` rows before the day, or of as many as there are.
    """

    times: NDArray[np.int64]
    closes: NDArray[np.float64]
    volumes: NDArray[np.float64]
    base_closes: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Day:
    """How good the rows of one day are; see quality.proto. Counts are bars but for `rows` and `quarantined`: rows.

    For trades `missing`, `pending` and `unreachable` are milliseconds, and what only bars have is 0.
    """

    range: TimeRange
    rows: int = 0
    expected: int = 0
    empty: int = 0
    spoiled: int = 0
    missing: int = 0
    pending: int = 0
    unreachable: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)
    revised: int = 0
    zero_volume: int = 0
    zero_volume_runs: int = 0
    longest_zero_volume_run: int = 0
    outliers: int = 0


def days_of(window: TimeRange) -> Iterator[TimeRange]:
    """The days of UTC that a range touches, clipped to it, ascending."""
    start = window.start
    while start < window.end:
        end = min((start // MICROS_PER_DAY + 1) * MICROS_PER_DAY, window.end)
        yield TimeRange(start, end)
        start = end


def day_of_bars(
    day: TimeRange, grid: Grid, spans: Sequence[Span], bars: Bars, set_aside: Sequence[Quarantined], revised: int
) -> Day:
    """Reports on one day of bars.

    Args:
        day: the day, or what of it is reported on.
        grid: the grid of the series.
        spans: tiles of coverage that touch the day.
        bars: the stored bars that open in the day, all of them on the grid.
        set_aside: the quarantined rows that are counted in the day.
        revised: how many times of the day were revised.
    """
    rows = len(bars.times)
    slots = _by_state(day, spans, lambda part: grid.count(part.start, part.end))
    spoiled = _spoiled(day, grid, bars.times, set_aside)
    runs = zero_runs(bars.times, bars.volumes, grid)
    return Day(
        day,
        rows=rows,
        expected=rows + spoiled + slots[State.MISSING] + slots[State.UNREACHABLE],
        # Coverage and rows are not of quite the same moment while somebody writes.
        empty=max(0, slots[State.COVERED] - rows - spoiled),
        spoiled=spoiled,
        missing=slots[State.MISSING],
        pending=slots[State.PENDING],
        unreachable=slots[State.UNREACHABLE],
        quarantined=_by_reason(set_aside),
        revised=revised,
        zero_volume=sum(runs),
        zero_volume_runs=len(runs),
        longest_zero_volume_run=max(runs, default=0),
        outliers=int(outlying(bars).sum()),
    )


def day_of_trades(
    day: TimeRange, spans: Sequence[Span], rows: int, set_aside: Sequence[Quarantined], revised: int
) -> Day:
    """Reports on one day of trades; arguments as for `day_of_bars`, `rows` is how many are stored."""
    spent = _by_state(day, spans, lambda part: part.width // MICROS_PER_MS)
    return Day(
        day,
        rows=rows,
        missing=spent[State.MISSING],
        pending=spent[State.PENDING],
        unreachable=spent[State.UNREACHABLE],
        quarantined=_by_reason(set_aside),
        revised=revised,
    )


def zero_runs(times: NDArray[np.int64], volumes: NDArray[np.float64], grid: Grid) -> list[int]:
    """How many bars each run of zero volume has: bars that follow one another on the grid without a gap."""
    at = np.flatnonzero(volumes == 0)
    if len(at) == 0:
        return []
    slots = _slots(times[at], grid)
    ends = np.flatnonzero(np.diff(slots) != 1)
    return [int(length) for length in np.diff(np.concatenate(([-1], ends, [len(at) - 1])))]


def outlying(bars: Bars) -> NDArray[np.bool_]:
    """Which bars of the day are outliers."""
    found = np.zeros(len(bars.closes), np.bool_)
    closes = np.concatenate((bars.base_closes, bars.closes))
    given = np.flatnonzero(closes > 0)  # also where there is none: a comparison with NaN is false
    if len(given) <= FEWEST_RETURNS:
        return found
    returns = np.diff(np.log(closes[given]))
    away = np.abs(returns - np.median(returns))
    scale = _FROM_DECILE * float(np.quantile(away, _DECILE)) or _FROM_MEAN * float(away.mean())
    far = given[1:][away > FAR * scale]
    found[far[far >= len(bars.base_closes)] - len(bars.base_closes)] = True
    return found


def _slots(times: NDArray[np.int64], grid: Grid) -> NDArray[np.int64]:
    if isinstance(grid, FixedGrid):
        return np.asarray((times - grid.anchor) // grid.width)
    return np.fromiter((grid.index_of(int(time)) for time in times), np.int64, len(times))


def _by_state(day: TimeRange, spans: Sequence[Span], measure: Callable[[TimeRange], int]) -> Counter[State]:
    found: Counter[State] = Counter()
    for span in spans:
        part = span.range.intersect(day)
        if part is not None:
            found[span.state] += measure(part)
    return found


def _by_reason(set_aside: Iterable[Quarantined]) -> Mapping[str, int]:
    return dict(sorted(Counter(bad.reason for bad in set_aside).items()))


def _spoiled(day: TimeRange, grid: Grid, times: NDArray[np.int64], set_aside: Iterable[Quarantined]) -> int:
    """How many bars of the grid have quarantined rows and no stored one."""
    named = {bad.ts for bad in set_aside if bad.ts is not None and bad.reason not in _NO_BAR}
    on_grid = {at for at in named if at in day and grid.floor(at) == at}
    return len(on_grid.difference(times.tolist()) if on_grid else ())
