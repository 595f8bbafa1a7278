"""The engine over the real embedded store and a scripted venue on a virtual clock."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from historyd.coverage import State
from historyd.engine.events import EnsurePlan, EnsureProgress, EnsureResult, ReadRequest, ReadStart, ReadSummary
from historyd.engine.history import HistoryEngine
from historyd.errors import (
    BadAnswer,
    ExchangeUnavailable,
    HistoryError,
    Incomplete,
    NoSource,
    RateLimited,
    ShuttingDown,
    UnknownSymbol,
    VenueRefused,
)
from historyd.model.rows import BARS, RowKey
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_S, TimeRange
from historyd.stores.embedded import open_embedded
from tests.scripted import MINUTE, START_OF_2024, ScriptedSource, VirtualClock, bars_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERIES = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")
NOW = START_OF_2024 + 30 * MINUTE + 5 * MICROS_PER_S


class House:
    """An engine with all that is around it."""

    def __init__(self, engine: HistoryEngine, source: ScriptedSource, clock: VirtualClock) -> None:
        self.engine = engine
        self.source = source
        self.clock = clock

    async def ensure(self, window: TimeRange, series: SeriesId = SERIES, **options: Any) -> list[Any]:
        return [event async for event in self.engine.ensure(series, window, **options)]

    async def result(self, window: TimeRange, **options: Any) -> EnsureResult:
        result = (await self.ensure(window, **options))[-1]
        assert isinstance(result, EnsureResult)
        return result

    async def read(self, window: TimeRange, series: SeriesId = SERIES, **options: Any) -> tuple[pa.Table, ReadSummary]:
        events = [event async for event in self.engine.read(ReadRequest(series, window, **options))]
        summary = events[-1]
        assert isinstance(summary, ReadSummary)
        batches = [event for event in events if isinstance(event, pa.RecordBatch)]
        return pa.Table.from_batches(batches, BARS), summary

    async def states(self, window: TimeRange) -> list[tuple[State, int]]:
        return [(span.state, span.row_count) for span in await self.engine.coverage(SERIES, window)]


@asynccontextmanager
async def house(path: Path, clock: VirtualClock | None = None, **venue: Any) -> AsyncIterator[House]:
    clock = clock or VirtualClock(NOW)
    source = ScriptedSource(clock, **venue)
    async with (
        open_embedded(path / "history.db") as store,
        HistoryEngine(store, source, clock=clock, sleep=clock.sleep) as engine,
    ):
        yield House(engine, source, clock)
    assert engine.under_way == 0
    assert source.on_the_wire == 0


def minutes(start: int, end: int) -> TimeRange:
    return TimeRange(START_OF_2024 + start * MINUTE, START_OF_2024 + end * MINUTE)


def expected(window: TimeRange) -> pa.Table:
    return pa.Table.from_batches([bars_at(range(window.start, window.end, MINUTE))])


async def test_a_question_asked_twice_costs_the_exchange_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        window = minutes(-1000, -500)
        first = await h.result(window)
        assert first.page_count == len(h.source.calls) == 6  # 100 bars each, off the page grid at both ends
        calls = first.call_count
        second = await h.result(window)
        assert (second.call_count, second.page_count) == (0, 0)
        assert len(h.source.calls) == calls
        table, summary = await h.read(window)
        assert table.equals(expected(window))
        assert summary.complete


async def test_the_first_message_is_the_plan_and_the_last_the_result(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        events = await h.ensure(minutes(-400, -100))
        plan, *progress, result = events
        assert isinstance(plan, EnsurePlan)
        assert plan.page_count == plan.call_count == len(h.source.calls)
        assert plan.least_s == pytest.approx(0.02 * plan.call_count)
        assert all(isinstance(event, EnsureProgress) for event in progress)
        assert [event.pages_done for event in progress] == sorted(event.pages_done for event in progress)
        assert progress[-1].pages_done == plan.page_count
        assert progress[-1].rows_done == result.row_count
        assert result.uncovered == ()


async def test_plan_only_fetches_no_page(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        (plan,) = await h.ensure(minutes(-400, -100), plan_only=True)
        assert plan.missing == (minutes(-400, -100),)
        assert h.source.calls == []


async def test_the_open_bar_is_never_stored(tmp_path: Path) -> None:
    """At 00:30:05 the bar of 00:29 has closed and settled, that of 00:30 is open."""
    async with house(tmp_path) as h:
        window = minutes(0, 60)
        result = await h.result(window)
        assert [(span.state, span.range) for span in result.uncovered] == [(State.PENDING, minutes(30, 60))]
        table, summary = await h.read(window, require_complete=True)
        assert table.equals(expected(minutes(0, 30)))
        assert summary.complete
        assert summary.closed_through == minutes(30, 60).start


async def test_a_bar_within_its_settle_delay_is_pending(tmp_path: Path) -> None:
    async with house(tmp_path, VirtualClock(START_OF_2024 + 30 * MINUTE + 1_999_999)) as h:
        await h.result(minutes(0, 30))
        assert (await h.states(minutes(28, 30))) == [(State.COVERED, 1), (State.PENDING, 0)]


async def test_the_exchanges_clock_decides_what_has_closed(tmp_path: Path) -> None:
    """A host that runs five minutes ahead learns so only from the first answer, and still stores no open bar."""
    async with house(tmp_path) as h:
        h.source.skew = 0
        fetch = h.source.fetch_bars

        async def fetch_and_tell(*args: Any) -> Any:
            h.source.skew = -5 * MINUTE
            return await fetch(*args)

        h.source.fetch_bars = fetch_and_tell  # type: ignore[method-assign, assignment]
        await h.result(minutes(0, 30))
        assert (await h.states(minutes(0, 30))) == [(State.COVERED, 25), (State.PENDING, 0)]


async def test_a_range_that_begins_years_before_the_listing_costs_a_handful_of_calls(tmp_path: Path) -> None:
    async with house(tmp_path, listed_at=START_OF_2024 - 10 * MICROS_PER_DAY) as h:
        window = TimeRange(0, START_OF_2024 - 9 * MICROS_PER_DAY)
        result = await h.result(window)
        assert result.call_count + h.source.listing_calls <= 20
        assert 1440 <= result.row_count < 1540, "a day of bars, to the end of its last page"
        spans = await h.engine.coverage(SERIES, window)
        assert [span.state for span in spans] == [State.COVERED] * 2
        assert spans[0].row_count == 0
        h.source.calls.clear()
        assert (await h.result(window)).call_count == 0
        assert h.source.listing_calls == 1


async def test_an_outage_is_confirmed_empty_and_not_asked_again(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.holes = [minutes(-90_400, -90_000)]
        await h.result(minutes(-91_000, -89_000))
        h.source.calls.clear()
        assert (await h.result(minutes(-91_000, -89_000))).call_count == 0
        states = await h.states(minutes(-91_000, -89_000))
        assert (State.COVERED, 0) in states
        assert all(state is State.COVERED for state, _ in states)


async def test_an_empty_page_asked_within_a_day_is_asked_once_more(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        page = minutes(-220, -120)
        h.source.holes = [page]
        await h.result(page)
        assert (await h.result(page)).call_count == 0
        h.clock.now += MICROS_PER_DAY
        h.source.holes = []
        assert (await h.result(page)).row_count == 100
        assert (await h.read(page))[0].equals(expected(page))
        assert (await h.result(page)).call_count == 0


async def test_a_refresh_asks_again_and_rows_that_are_gone_are_gone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        window = minutes(-400, -200)
        await h.result(window)
        h.clock.now += MICROS_PER_S
        h.source.holes = [minutes(-300, -290)]
        result = await h.result(window, refresh=True)
        assert result.page_count > 0
        table, _ = await h.read(window)
        assert table.num_rows == 190


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ExchangeUnavailable("away"), 3),
        (BadAnswer("html"), 3),
        (RateLimited("429", retry_after_s=2.0), 3),
        (RateLimited("418 for three days", retry_after_s=259_200.0), 1),
        (VenueRefused("451"), 1),
        (UnknownSymbol("binance", "BTC/USDT"), 1),
    ],
)
async def test_only_what_a_retry_can_mend_is_tried_again(tmp_path: Path, error: HistoryError, attempts: int) -> None:
    async with house(tmp_path) as h:
        h.source.errors.extend([error] * 20)
        window = minutes(-100, -50)
        with pytest.raises(type(error)):
            await h.result(window)
        first = h.source.calls[0]
        assert h.source.calls.count(first) == attempts
        assert (await h.states(first))[0][0] is State.MISSING


async def test_retries_back_off(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.errors.extend([ExchangeUnavailable("away")] * 2)
        assert (await h.result(minutes(-100, -50))).uncovered == ()
        assert h.clock.slept_s == [0.5, 1.0]


async def test_a_silent_wait_is_told_every_second(tmp_path: Path) -> None:
    """A call that hangs still gives a progress message, which says that nothing is waited for but the call."""
    async with house(tmp_path) as h:
        h.source.gate = asyncio.Event()
        async with aclosing(h.engine.ensure(SERIES, minutes(-100, -50))) as events:
            assert isinstance(await anext(events), EnsurePlan)
            tick = await anext(events)
            assert isinstance(tick, EnsureProgress)
            assert (tick.pages_done, tick.calls_done, tick.wait) == (0, 1, None)
            h.source.gate.set()


async def test_a_rate_limited_call_waits_as_long_as_the_exchange_says(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.errors.append(RateLimited("429", retry_after_s=7.0))
        await h.result(minutes(-100, -50))
        assert h.clock.slept_s == [7.0]


async def test_an_unknown_symbol_asks_for_no_bars(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        with pytest.raises(UnknownSymbol):
            await h.ensure(minutes(-100, -50), SeriesId.parse("ohlcv:binance:DOGE/USDT:1m"))
        assert h.source.calls == []


async def test_a_page_of_nonsense_is_not_covered(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        nonsense = bars_at(range(START_OF_2024 - 100 * MINUTE, START_OF_2024, MINUTE)).set_column(
            5, "volume", pa.array([-1.0] * 100)
        )
        h.source.answers.extend([nonsense.cast(BARS)] * 3)
        with pytest.raises(BadAnswer):
            await h.result(minutes(-100, -50))
        assert all(state is State.MISSING for state, _ in await h.states(minutes(-100, -50)))


async def test_rows_that_ignore_the_window_make_it_unreachable_not_empty(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.knows_listing = False
        h.source.answers.append(bars_at([START_OF_2024 - MINUTE]))
        window = minutes(-90_050, -90_010)
        result = await h.result(window)
        (span,) = result.uncovered
        assert span.state is State.UNREACHABLE
        assert "another time" in span.reason
        assert (await h.result(window)).call_count == 0, "remembered for an hour"
        h.clock.now += 3601 * MICROS_PER_S
        assert (await h.result(window)).uncovered == ()


async def test_a_read_that_learns_what_is_unreachable_says_so(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.knows_listing = False
        h.source.answers.append(bars_at([START_OF_2024 - MINUTE]))
        window = minutes(-90_050, -90_030)
        table, summary = await h.read(window, ensure=True)
        assert table.num_rows == 0
        assert [(span.state, span.range) for span in summary.uncovered] == [(State.UNREACHABLE, window)]


async def test_a_read_that_learns_that_it_cannot_be_complete_fails(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.knows_listing = False
        h.source.answers.append(bars_at([START_OF_2024 - MINUTE]))
        with pytest.raises(Incomplete, match="another time"):
            await h.read(minutes(-90_050, -90_030), ensure=True, require_complete=True)


async def test_the_first_read_of_a_series_goes_by_the_grid_that_the_venue_turns_out_to_have(tmp_path: Path) -> None:
    weeks = SeriesId.parse("ohlcv:binance:BTC/USDT:1w")
    wednesday = START_OF_2024 + 2 * MICROS_PER_DAY
    async with house(tmp_path) as h:
        h.source.anchor = wednesday
        window = TimeRange(wednesday - 20 * 7 * MICROS_PER_DAY, wednesday - 10 * 7 * MICROS_PER_DAY)
        table, summary = await h.read(window, weeks, ensure=True)
        opens = [stamp.value for stamp in table.column("ts")]
        assert opens == list(range(window.start, window.end, 7 * MICROS_PER_DAY))
        assert summary.complete


async def test_a_venue_of_little_depth_is_unreachable_beyond_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.source.profile = type(h.source.profile)("binance", page_bars=100, depth_bars=720)
        result = await h.result(minutes(-2000, 0))
        (span,) = result.uncovered
        assert (span.state, span.range) == (State.UNREACHABLE, minutes(-2000, 30 - 719))
        with pytest.raises(Incomplete, match="last 720 bars"):
            await h.read(minutes(-2000, 0), require_complete=True, ensure=True)


async def test_require_complete_fails_before_the_first_row(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.result(minutes(-300, -200))
        async with aclosing(h.engine.read(ReadRequest(SERIES, minutes(-400, -200), require_complete=True))) as events:
            with pytest.raises(Incomplete) as refused:
                await anext(events)
        assert "first_gap" in refused.value.metadata


async def test_a_read_without_ensure_serves_what_is_there_and_names_the_rest(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.result(minutes(-200, -130))
        calls = len(h.source.calls)
        window = minutes(-500, -130)
        table, summary = await h.read(window)
        covered = [span for span in await h.engine.coverage(SERIES, window) if span.state is State.COVERED]
        assert table.num_rows == sum(span.row_count for span in covered)
        assert not summary.complete
        assert [span.state for span in summary.uncovered] == [State.MISSING]
        assert len(h.source.calls) == calls


async def test_rows_flow_before_the_later_pages_are_there(tmp_path: Path) -> None:
    """The rows of the first page come although the exchange answers no further call."""
    async with house(tmp_path) as h:
        first_page = minutes(-1000, -1000 + 10)
        await h.result(first_page)
        h.source.gate = asyncio.Event()
        request = ReadRequest(SERIES, minutes(-1000, -500), ensure=True)
        rows = 0
        async with aclosing(h.engine.read(request)) as events:
            assert isinstance(await anext(events), ReadStart)
            batch = await anext(events)
            assert isinstance(batch, pa.RecordBatch)
            rows += batch.num_rows
            h.source.gate.set()
            async for event in events:
                rows += event.num_rows if isinstance(event, pa.RecordBatch) else 0
        assert rows == 500


async def test_a_bar_that_closes_while_others_are_fetched_does_not_make_the_range_incomplete(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        fetch = h.source.fetch_bars

        async def fetch_slowly(*args: Any) -> Any:
            h.clock.now += MINUTE
            return await fetch(*args)

        h.source.fetch_bars = fetch_slowly  # type: ignore[method-assign, assignment]
        window = minutes(-400, 60)
        table, summary = await h.read(window, ensure=True, require_complete=True)
        assert summary.complete
        assert table.num_rows >= 430
        h.clock.now += MICROS_PER_S
        result = await h.result(window)
        assert [span.state for span in result.uncovered] == [State.PENDING]


async def test_a_read_resumes_after_a_key(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        window = minutes(-300, -100)
        after = RowKey(minutes(-150, -100).start)
        table, _ = await h.read(window, ensure=True, after=after)
        assert table.equals(expected(minutes(-149, -100)))


async def test_the_last_rows_are_fetched_and_in_ascending_order(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        table, summary = await h.read(TimeRange(0, h.clock.now), last=120, ensure=True)
        assert table.equals(expected(minutes(30 - 120, 30)))
        assert summary.complete


async def test_the_last_rows_come_after_the_range_that_they_turn_out_to_take(tmp_path: Path) -> None:
    """Five minutes without bars are among the last eight, so the rows begin before them."""
    async with house(tmp_path) as h:
        h.source.holes.append(minutes(20, 25))
        await h.result(minutes(-100, 30))
        request = ReadRequest(SERIES, TimeRange(0, minutes(0, 30).end), last=8, ensure=True)
        start, batch, _ = [event async for event in h.engine.read(request)]
        assert start == ReadStart(minutes(17, 30))
        assert isinstance(batch, pa.RecordBatch)
        assert batch.num_rows == 8


async def test_fewer_last_rows_than_asked_are_incomplete_before_the_first(tmp_path: Path) -> None:
    """Those that are there have no gap among them; those before them are missing."""
    async with house(tmp_path) as h:
        await h.result(minutes(10, 30))
        request = ReadRequest(SERIES, TimeRange(0, minutes(0, 30).end), last=200, require_complete=True)
        async with aclosing(h.engine.read(request)) as events:
            with pytest.raises(Incomplete):
                await anext(events)


async def test_the_last_rows_of_nothing_are_no_rows(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        table, summary = await h.read(TimeRange(0, h.clock.now), last=5)
        assert table.num_rows == 0
        assert not summary.complete


async def test_without_a_source_what_is_stored_is_served(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.result(minutes(-300, -100))
    clock = VirtualClock(NOW)
    async with open_embedded(tmp_path / "history.db") as store, HistoryEngine(store, None, clock=clock) as engine:
        alone = House(engine, ScriptedSource(clock), clock)
        table, summary = await alone.read(minutes(-300, -100), ensure=True)
        assert table.equals(expected(minutes(-300, -100)))
        assert summary.complete
        with pytest.raises(NoSource):
            await alone.result(minutes(-900, -800))


async def test_draining_ends_ensures_and_keeps_what_was_fetched(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        async with aclosing(h.engine.ensure(SERIES, minutes(-3000, -100))) as events:
            async for event in events:
                if isinstance(event, EnsureProgress) and event.pages_done == 3:
                    break
            h.engine.drain()
            with pytest.raises(ShuttingDown):
                [event async for event in events]
        assert sum(rows for _, rows in await h.states(minutes(-3000, -100))) >= 300
