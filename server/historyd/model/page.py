"""Pages: fixed windows of a series' own grid, the unit of fetching, leasing and coverage growth.

The layout (how many bars make a page, where the grid is anchored) is fixed in the store when a series is
first written, so that all replicas meet on one grid whatever their venue tables say.

The grid of trades is that of milliseconds, their page a bucket of time that may take many calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_MS, TimeRange
from historyd.model.timeframe import FixedGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from historyd.model.series import SeriesId
    from historyd.model.timeframe import Grid

TRADE_PAGE_MS: Final = 3_600_000
"""Milliseconds of a page of trades."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a series is cut into pages.

    Attributes:
        page_bars: bars in one page, for trades milliseconds; at least 1.
        anchor: open time of any one bar in microseconds; None for the timeframe's usual grid.
    """

    page_bars: int
    anchor: int | None = None

    def __post_init__(self) -> None:
        if self.page_bars < 1:
            raise ValueError(f"a page must hold at least one bar, got {self.page_bars}")


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of one series.

    Attributes:
        grid: the grid of its bars; for trades that of milliseconds.
        page_bars: slots of the grid in one page.
        whole: a page of which anything is missing is asked for whole. Trades are asked for as far as they are missing.
    """

    grid: Grid
    page_bars: int
    whole: bool = True

    @classmethod
    def of(cls, series: SeriesId, layout: Layout) -> Pages:
        """The pages of a series under this layout."""
        if series.timeframe is None:
            return cls(FixedGrid(MICROS_PER_MS, 0), layout.page_bars, whole=False)
        return cls(series.timeframe.grid(layout.anchor), layout.page_bars)

    def at(self, number: int) -> TimeRange:
        """The window of page `number`."""
        first = number * self.page_bars
        return TimeRange(self.grid.time_of(first), self.grid.time_of(first + self.page_bars))

    def number_of(self, instant: int) -> int:
        """The number of the page that `instant` belongs to."""
        return self.grid.index_of(instant) // self.page_bars

    def touching(self, window: TimeRange) -> Iterator[TimeRange]:
        """The pages that share an instant with the window, ascending."""
        for number in range(self.number_of(window.start), self.number_of(window.end - 1) + 1):
            yield self.at(number)
