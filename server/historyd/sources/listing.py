"""Learns where a series begins, each venue in its own way (`VenueTraits.listing`), and where its grid lies.

What is learned is a lower bound: there is no bar before it. It is never taken from what a market's description says
of its age (ccxt's `created`): that is when a contract was announced or listed again. And it is checked: the page
before it is asked for, and must be empty.

Promises: at most `VenueTraits.listing_calls` calls where months are served, and so many where days are the widest
bars; None rather than a guess. Never does: store anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_MS, MICROS_PER_S, TimeRange, between
from historyd.model.timeframe import Timeframe
from historyd.sources.venues import Listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from historyd.sources.ccxt_bars import Bars

OLDEST: Final = 1_293_840_000 * MICROS_PER_S
"""2011-01-01: no exchange of today had a market before."""
_DAY: Final = Timeframe.parse("1d")
_MONTH: Final = Timeframe.parse("1M")
_SEEN_BARS: Final = 100


class _IgnoredWindow(Exception):
    """The venue answered with bars of another time: nothing can be learned from it in this way."""


async def first_bar(bars: Bars, since: int) -> int | None:
    """An instant before which the venue has no bar, and soon after which it has; None if it cannot tell.

    A search of more than two calls is not made if there are bars right from `since` on: it is not worth it.
    """
    listing = bars.traits.listing
    if listing is Listing.START_OF_TIME and not bars.inverse:
        return await _first_of_all(bars)
    if listing is Listing.SHORT_ANSWER:
        return await _first_of_few(bars)
    return None if listing is Listing.UNTOLD else await _first_by_coarse_bars(bars, since)


async def any_bar(bars: Bars) -> int | None:
    """Open time of one of the latest bars; None if there is none."""
    now = bars.now()
    window = TimeRange(bars.timeframe.grid().back(now, min(bars.page_bars, _SEEN_BARS)), now)
    *_, latest = bars.parts(window)
    return _earliest((await bars.fetch_part(latest)).rows)


async def _first_of_all(bars: Bars) -> int | None:
    """Asks from the start of time, then once more for what is before that bar.

    A venue that took a start of 0 for none would have answered with its latest, and years would pass for empty.
    """
    first = _earliest(await bars.ask(0, 1))
    if first is None:
        return None
    before = await bars.ask(0, 1, first // MICROS_PER_MS - 1)
    return first if before.num_rows == 0 else None


async def _first_of_few(bars: Bars) -> int | None:
    """A venue that serves its newest bars only: fewer than it serves at most are all that there are."""
    rows = await bars.ask(OLDEST // MICROS_PER_MS, 1)
    depth = bars.traits.depth_bars
    return _earliest(rows) if depth is not None and rows.num_rows < depth else None


async def _first_by_coarse_bars(bars: Bars, since: int) -> int | None:
    """Looks through all of time in wide bars, then around the first of them in narrower ones."""
    try:
        if await _has_bars_from(bars, since):
            return None
        first = await _descend(bars, await _levels(bars))
        if first is None:
            return None
        page_before = TimeRange(bars.timeframe.grid().back(first, bars.page_bars), first)
        *_, last_part = bars.parts(page_before)
        return None if await _opens(bars, last_part) else first
    except _IgnoredWindow:
        return None


async def _has_bars_from(bars: Bars, since: int) -> bool:
    """Whether there are bars in the page that begins at an instant; it is not asked for before all exchanges."""
    page = between(since, bars.now()) if since >= OLDEST else None
    return page is not None and bool(await _opens(bars, next(bars.parts(page))))


async def _levels(bars: Bars) -> list[Timeframe]:
    """The widths to look in, widest first: of months and days what is served, and the series' own if it is wide."""
    served = (await bars.session.timeframes()).values()
    own = bars.timeframe
    wider = [frame for frame in (_MONTH, _DAY) if frame in served and frame.nominal_width > own.nominal_width]
    return [*wider, own] if own.nominal_width >= _DAY.nominal_width else wider


async def _descend(bars: Bars, levels: Sequence[Timeframe]) -> int | None:
    now, first = bars.now(), None
    margin = MICROS_PER_DAY + bars.timeframe.nominal_width
    window: TimeRange | None = TimeRange(OLDEST, now)
    for level in levels:
        found = None if window is None else await _first_open(bars.of(level), window)
        if found is None:
            # Nothing at all, or the narrower bars begin later than this wide one: it still bounds them.
            return first
        first = found
        # Bars of one width may be cut elsewhere than those of another.
        window = between(found - margin, min(now, found + level.nominal_width + margin))
    return first


async def _first_open(bars: Bars, window: TimeRange) -> int | None:
    for part in bars.parts(window):
        opens = await _opens(bars, part)
        if opens:
            return min(opens)
    return None


async def _opens(bars: Bars, part: TimeRange) -> list[int]:
    """Open times of the bars of a window. Raises _IgnoredWindow if all that came is outside of it."""
    stamps = _stamps((await bars.fetch_part(part)).rows)
    inside = [stamp for stamp in stamps if stamp in part]
    if stamps and not inside:
        raise _IgnoredWindow
    return inside


def _earliest(rows: pa.RecordBatch) -> int | None:
    return min(_stamps(rows), default=None)


def _stamps(rows: pa.RecordBatch) -> list[int]:
    stamps: list[int] = rows.column(0).cast(pa.int64()).drop_null().to_pylist()
    return stamps
