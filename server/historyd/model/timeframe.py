"""Timeframes (`1m` ... `1M`) and the grids of bars that they lay over time.

A grid numbers its bars: bar `i` opens at `time_of(i)`, and `index_of(t)` is the bar that is open at `t`.
Everything else (rounding, counting, paging) follows from these two. Widths up to a week are fixed; months
and years are those of the calendar. Weeks begin on Monday unless the venue's anchor says otherwise.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_S

_NOTATION: Final = re.compile(r"([1-9][0-9]{0,3})([smhdwMy])")
_FIXED: Final = {
    "s": MICROS_PER_S,
    "m": 60 * MICROS_PER_S,
    "h": 3600 * MICROS_PER_S,
    "d": MICROS_PER_DAY,
    "w": 7 * MICROS_PER_DAY,
}
_MONTHS: Final = {"M": 1, "y": 12}
_MONDAY: Final = 4 * MICROS_PER_DAY
"""1970-01-05, the first Monday: where weeks are anchored."""
_DAYS_PER_400_YEARS: Final = 146_097
_DAYS_FROM_YEAR_0_TO_1970: Final = 719_468
"""From 0000-03-01 to 1970-01-01."""
_MEAN_MONTH: Final = 2_629_746 * MICROS_PER_S


@dataclass(frozen=True, slots=True)
class Timeframe:
    """The width of a bar in CCXT's notation: a count and one of s, m, h, d, w, M (month), y."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Timeframe:
        """Reads CCXT's notation. Raises ValueError if it is none."""
        match = _NOTATION.fullmatch(text)
        if match is None:
            raise ValueError(f"timeframe {text!r} is not a count and one of s, m, h, d, w, M, y")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    @property
    def nominal_width(self) -> int:
        """Microseconds of one bar; the mean for calendar months and years. For estimates only."""
        if self.unit in _FIXED:
            return self.count * _FIXED[self.unit]
        return self.count * _MONTHS[self.unit] * _MEAN_MONTH

    def grid(self, anchor: int | None = None) -> Grid:
        """The grid of this timeframe; `anchor` is the open time of any one bar, default the usual one."""
        if self.unit in _FIXED:
            usual = _MONDAY if self.unit == "w" else 0
            return FixedGrid(self.count * _FIXED[self.unit], usual if anchor is None else anchor)
        months = self.count * _MONTHS[self.unit]
        return MonthGrid(months, 0 if anchor is None else month_of(anchor))


class Grid(ABC):
    """Bars of one width, numbered. Subclasses give `time_of` and `index_of`."""

    __slots__ = ()

    @abstractmethod
    def time_of(self, index: int) -> int:
        """When bar `index` opens, in microseconds."""

    @abstractmethod
    def index_of(self, instant: int) -> int:
        """The number of the bar that is open at `instant`."""

    def floor(self, instant: int) -> int:
        """The last open time that is not after `instant`."""
        return self.time_of(self.index_of(instant))

    def ceil(self, instant: int) -> int:
        """The first open time that is not before `instant`."""
        floor = self.floor(instant)
        return floor if floor == instant else self.time_of(self.index_of(instant) + 1)

    def count(self, start: int, end: int) -> int:
        """How many bars open in `[start, end)`; 0 if that is empty."""
        return max(0, self._first_at_or_after(end) - self._first_at_or_after(start))

    def back(self, instant: int, bars: int) -> int:
        """The open time `bars` before the first open time at or after `instant`."""
        return self.time_of(self._first_at_or_after(instant) - bars)

    def _first_at_or_after(self, instant: int) -> int:
        index = self.index_of(instant)
        return index if self.time_of(index) == instant else index + 1


@dataclass(frozen=True, slots=True)
class FixedGrid(Grid):
    """Bars of a fixed width, one of which opens at `anchor`."""

    width: int
    anchor: int

    def time_of(self, index: int) -> int:
        """When bar `index` opens, in microseconds."""
        return self.anchor % self.width + index * self.width

    def index_of(self, instant: int) -> int:
        """The number of the bar that is open at `instant`."""
        return (instant - self.anchor % self.width) // self.width


@dataclass(frozen=True, slots=True)
class MonthGrid(Grid):
    """Bars of `months` calendar months, one of which begins in month `anchor_month` (months since 1970-01)."""

    months: int
    anchor_month: int

    def time_of(self, index: int) -> int:
        """When bar `index` opens, in microseconds."""
        return _start_of_month(self.anchor_month % self.months + index * self.months)

    def index_of(self, instant: int) -> int:
        """The number of the bar that is open at `instant`."""
        return (month_of(instant) - self.anchor_month % self.months) // self.months


def month_of(instant: int) -> int:
    """The calendar month of an instant, counted from 1970-01 = 0."""
    days = instant // MICROS_PER_DAY
    guess = days * 400 * 12 // _DAYS_PER_400_YEARS
    while _start_of_month(guess + 1) <= instant:
        guess += 1
    while _start_of_month(guess) > instant:
        guess -= 1
    return guess


def _start_of_month(month: int) -> int:
    """When a calendar month begins, in microseconds; `datetime` would end at the year 9999."""
    # Days since 0000-03-01 in the proleptic Gregorian calendar: years that begin in March put the leap day last.
    year, month_from_march = divmod(1970 * 12 + month - 2, 12)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month_from_march + 2) // 5
    return (days - _DAYS_FROM_YEAR_0_TO_1970) * MICROS_PER_DAY
