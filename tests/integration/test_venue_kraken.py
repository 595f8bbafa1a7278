"""Kraken serves the newest 720 bars whatever it is asked for: what is older is unreachable, never empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from historyd.coverage import State
from historyd.demo.candles import GivenRows
from historyd.model.time_range import MICROS_PER_MS, TimeRange
from tests.venues.house import MINUTE_MS, NOW_MS, bars_of, open_house, window_of
from tests.venues.kraken import Kraken
from tests.venues.tape import Tape, Traded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from historyd.demo.candles import Candles

SERIES = bars_of(Kraken)
THIS_MINUTE_MS = NOW_MS // MINUTE_MS * MINUTE_MS
OLDEST_MS = THIS_MINUTE_MS - 719 * MINUTE_MS
"""The first bar that Kraken serves: the open one is among its 720."""
OLD = Traded(NOW_MS - 100_000 * MINUTE_MS)


def made(candles: Candles = OLD, now_ms: list[int] | None = None) -> Kraken:
    clock = now_ms or [NOW_MS]
    return Kraken(Tape(("BTC/USD",), candles), clock=lambda: clock[0])


async def test_old_minutes_are_unreachable_with_the_reason_and_without_a_call(tmp_path: Path) -> None:
    window = window_of(THIS_MINUTE_MS - 5000 * MINUTE_MS, THIS_MINUTE_MS - 3000 * MINUTE_MS)
    async with open_house(tmp_path, made()) as house:
        for _ in range(3):
            (span,) = (await house.ensure(SERIES, window)).uncovered
            assert (span.state, span.range) == (State.UNREACHABLE, window)
            assert span.reason == "kraken serves only the last 720 bars of 1m"
        assert house.venue.count() == 0


async def test_a_range_that_reaches_into_the_past_is_covered_as_far_as_kraken_goes(tmp_path: Path) -> None:
    window = window_of(THIS_MINUTE_MS - 2000 * MINUTE_MS, THIS_MINUTE_MS)
    async with open_house(tmp_path, made()) as house:
        (span,) = (await house.ensure(SERIES, window)).uncovered
        assert (span.state, span.range) == (State.UNREACHABLE, window_of(window.start // 1000, OLDEST_MS))
        assert await house.rows(SERIES, window) == house.expected(SERIES, OLDEST_MS, THIS_MINUTE_MS)
        calls = house.venue.count()
        assert len(house.venue.bar_calls) <= 3
        await house.ensure(SERIES, window)
        assert house.venue.count() == calls


async def test_bars_that_grow_too_old_while_the_call_waits_are_not_taken_for_empty(tmp_path: Path) -> None:
    """Five minutes pass between the plan and the answer, as they do when quota is short."""
    now_ms = [NOW_MS]
    dialect = made(now_ms=now_ms)
    answer = dialect._ohlc

    def late(query: Mapping[str, str]) -> Any:
        now_ms[0] = NOW_MS + 5 * MINUTE_MS
        return answer(query)

    dialect._ohlc = late  # type: ignore[method-assign]
    window = window_of(OLDEST_MS, THIS_MINUTE_MS)
    async with open_house(tmp_path, dialect) as house:
        await house.source.check(SERIES)
        (span,) = (await house.ensure(SERIES, window)).uncovered
        lost = window_of(OLDEST_MS, OLDEST_MS + 5 * MINUTE_MS)
        assert (span.state, span.range) == (State.UNREACHABLE, lost)
        assert await house.rows(SERIES, window) == house.expected(SERIES, lost.end // 1000, THIS_MINUTE_MS)
        assert len(house.venue.bar_calls) <= 4


async def test_a_young_market_is_known_to_its_listing(tmp_path: Path) -> None:
    """It answers with fewer than 720 days: there are no others, so years before them are confirmed empty."""
    series, listed_ms = bars_of(Kraken, "1d"), NOW_MS - 100 * 1440 * MINUTE_MS
    window = window_of(NOW_MS - 5000 * 1440 * MINUTE_MS, NOW_MS - 2 * 1440 * MINUTE_MS)
    async with open_house(tmp_path, made(Traded(listed_ms))) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        assert await house.rows(series, window) == house.expected(series, 0, window.end // MICROS_PER_MS)
        assert len(house.venue.bar_calls) <= 4


async def test_an_old_market_is_asked_once_for_its_listing(tmp_path: Path) -> None:
    series = bars_of(Kraken, "1d")
    async with open_house(tmp_path, made(Traded(NOW_MS - 3000 * 1440 * MINUTE_MS))) as house:
        for days in (2000, 2100, 2200):
            await house.ensure(series, window_of(NOW_MS - days * 1440 * MINUTE_MS, NOW_MS))
        assert len(house.venue.bar_calls) <= 4


async def test_weeks_that_begin_on_thursday_are_read_as_they_are(tmp_path: Path) -> None:
    series = bars_of(Kraken, "1w")
    week_ms = 7 * 1440 * MINUTE_MS
    thursday_ms = NOW_MS // week_ms * week_ms
    rows = [(thursday_ms - week * week_ms, "1", "2", "1", "2", "5") for week in range(30)]
    async with open_house(tmp_path, made(GivenRows({("BTC/USD", "1w"): rows}))) as house:
        window = TimeRange((thursday_ms - 20 * week_ms) * 1000, thursday_ms * 1000)
        assert (await house.ensure(series, window)).uncovered == ()
        assert [row[0] for row in await house.rows(series, window)] == [
            thursday_ms - week * week_ms for week in range(20, 0, -1)
        ]
