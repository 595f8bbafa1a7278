"""Cuts a window into what one call to a venue can answer, and says how many bars to ask for.

Pure: no clock, no I/O. All ranges half-open, all instants in microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_DAY, TimeRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from historyd.model.timeframe import Timeframe

_CCXT_DAYS: Final = {"M": 30, "y": 365}
"""Days of a timeframe's unit by ccxt, where they are not those of the calendar."""


def parts(window: TimeRange, timeframe: Timeframe, page_bars: int, longest: int | None = None) -> Iterator[TimeRange]:
    """The window in ascending parts of at most `page_bars` bars and, if that is given, `longest` microseconds.

    One part unless a store's layout has larger pages than the venue. A part always holds at least one bar.
    """
    grid = timeframe.grid()
    # Of calendar units `bars_to_ask_for` asks for a few more.
    most = max(1, page_bars * 30 // 31) if timeframe.unit in _CCXT_DAYS else page_bars
    start = window.start
    while start < window.end:
        first = grid.index_of(start)
        # The venue's grid may have another anchor: count from the window's start, not from a bar's.
        shift = start - grid.time_of(first)
        end = min(window.end, grid.time_of(first + most) + shift)
        if longest is not None and end - start > longest:
            end = grid.time_of(max(grid.index_of(start + longest - shift), first + 1)) + shift
        yield TimeRange(start, end)
        start = end


def bars_to_ask_for(part: TimeRange, timeframe: Timeframe) -> int:
    """The limit that makes ccxt's own end of the window, `since + limit * width`, reach to the end of the part.

    For ccxt a month has 30 days and a year 365: of 200 months it would leave the last two out.
    """
    bars = max(1, timeframe.grid().count(part.start, part.end))
    days = _CCXT_DAYS.get(timeframe.unit)
    return bars if days is None else max(bars, -(-part.width // (timeframe.count * days * MICROS_PER_DAY)))
