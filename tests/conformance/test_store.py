"""What every store promises, run on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from historyd.coverage import Covered, Fact
from historyd.errors import OriginMismatch
from historyd.model.page import Layout
from historyd.model.rows import TRADES, Quarantined, RowKey
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_MS, MICROS_PER_S, TimeRange
from historyd.model.venue import Origin
from tests.rows import BTC, BTC_TRADES, MINUTE, all_rows, answer, bars, minutes, slots, trades

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from historyd.stores.base import Store

    Opener = Callable[[], AbstractAsyncContextManager[Store]]

ORIGIN = Origin("api.binance.com")
ETH = SeriesId.parse("ohlcv:binance:ETH/USDT:1m")


async def _put(store: Store, window: TimeRange, rows: pa.RecordBatch, asked_at: int = 10**15) -> None:
    await store.commit(BTC, answer(window, rows, asked_at), rows)


async def _stored(store: Store, window: TimeRange) -> list[tuple[int, float]]:
    return await slots(store.read(BTC, window))


async def _spans(store: Store, window: TimeRange) -> list[tuple[int, int, int]]:
    return [
        (span.range.start // MINUTE, span.range.end // MINUTE, span.row_count)
        for span in await store.coverage(BTC, window)
    ]


async def test_what_was_committed_is_read_back_equal(store: Store) -> None:
    rows = bars(range(1000), 1.5)
    await _put(store, minutes(0, 1000), rows)
    table = await all_rows(store.read(BTC, minutes(0, 1000)))
    assert table.combine_chunks().to_batches() == [rows]


async def test_nulls_and_missing_bars_are_read_back_as_they_were(store: Store) -> None:
    rows = bars([0, 1, 5, 9])
    holes = rows.set_column(5, rows.schema.field(5), _with_null(rows.column(5)))
    await _put(store, minutes(0, 10), holes)
    table = await all_rows(store.read(BTC, minutes(0, 10)))
    assert table["volume"].to_pylist() == [1.0, None, 1.0, 1.0]
    assert await _spans(store, minutes(0, 10)) == [(0, 10, 4)]


def _with_null(column: pa.Array) -> pa.Array:
    values = column.to_pylist()
    values[1] = None
    return pa.array(values, pa.float64())


async def test_a_read_gives_exactly_the_window(store: Store) -> None:
    for page in range(5):
        await _put(store, minutes(page * 10, page * 10 + 10), bars(range(page * 10, page * 10 + 10)))
    assert [slot for slot, _ in await _stored(store, minutes(7, 33))] == list(range(7, 33))
    off_grid = TimeRange(7 * MINUTE + 1, 33 * MINUTE + 1)
    assert [slot for slot, _ in await _stored(store, off_grid)] == list(range(8, 34))


async def test_a_read_of_nothing_has_no_batches(store: Store) -> None:
    await _put(store, minutes(0, 10), bars([]))
    assert [batch async for batch in store.read(BTC, minutes(0, 10))] == []
    assert [batch async for batch in store.read(ETH, minutes(0, 10))] == []
    assert [batch async for batch in store.read_last(ETH, 5, 10)] == []


async def test_batches_are_bounded_and_never_empty(store: Store) -> None:
    for start in range(0, 60_000, 1000):
        await _put(store, minutes(start, start + 1000), bars(range(start, start + 1000)))
    sizes = [batch.num_rows async for batch in store.read(BTC, minutes(3, 59_999))]
    assert sum(sizes) == 59_996
    assert min(sizes) >= 1
    assert max(sizes) <= 21_000


async def test_a_huge_commit_is_read_in_bounded_batches(store: Store) -> None:
    rows = bars(range(50_000))
    await _put(store, minutes(0, 50_000), rows)
    batches = [batch async for batch in store.read(BTC, minutes(0, 50_000))]
    assert max(batch.nbytes for batch in batches) <= 1 << 20
    assert sum(batch.num_rows for batch in batches) == 50_000


async def test_pages_may_come_in_any_order(store: Store) -> None:
    for page in (7, 2, 9, 0, 1, 8, 3, 6, 4, 5):
        await _put(store, minutes(page * 10, page * 10 + 10), bars(range(page * 10, page * 10 + 10)))
    assert [slot for slot, _ in await _stored(store, minutes(0, 100))] == list(range(100))
    assert await _spans(store, minutes(0, 100)) == [(0, 100, 100)]


async def test_the_same_commit_again_changes_nothing(store: Store) -> None:
    for _ in range(3):
        await _put(store, minutes(0, 10), bars(range(10), 2.0))
    assert await _stored(store, minutes(0, 10)) == [(slot, 2.0) for slot in range(10)]
    assert await _spans(store, minutes(0, 10)) == [(0, 10, 10)]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_the_newest_answer_wins_in_either_order(store: Store, order: tuple[int, int]) -> None:
    for asked_at in order:
        await _put(store, minutes(0, 10), bars(range(10), float(asked_at)), asked_at)
    assert await _stored(store, minutes(0, 10)) == [(slot, 2.0) for slot in range(10)]
    (span,) = await store.coverage(BTC, minutes(0, 10))
    assert span.checked_at == 2


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_where_answers_overlap_in_part_each_instant_has_the_newest(store: Store, order: tuple[int, int]) -> None:
    windows = {1: (0, 10), 2: (6, 14)}
    for asked_at in order:
        start, end = windows[asked_at]
        await _put(store, minutes(start, end), bars(range(start, end), float(asked_at)), asked_at)
    wanted = [(slot, 1.0) for slot in range(6)] + [(slot, 2.0) for slot in range(6, 14)]
    assert await _stored(store, minutes(0, 20)) == wanted
    (span,) = await store.coverage(BTC, minutes(0, 20))
    assert (span.range, span.row_count, span.checked_at) == (minutes(0, 14), 14, 1)


async def test_an_older_answer_fills_only_what_newer_ones_left(store: Store) -> None:
    await _put(store, minutes(2, 4), bars([2, 3], 9.0), 9)
    await _put(store, minutes(6, 8), bars([6], 9.0), 9)
    await _put(store, minutes(0, 10), bars(range(10), 1.0), 1)
    closes = dict(await _stored(store, minutes(0, 10)))
    assert closes == {0: 1.0, 1: 1.0, 2: 9.0, 3: 9.0, 4: 1.0, 5: 1.0, 6: 9.0, 8: 1.0, 9: 1.0}
    assert await _spans(store, minutes(0, 10)) == [(0, 10, 9)]


async def test_a_refresh_removes_the_rows_it_does_not_name(store: Store) -> None:
    await _put(store, minutes(0, 30), bars(range(30), 1.0), 1)
    await _put(store, minutes(10, 20), bars([12], 2.0), 2)
    assert [slot for slot, _ in await _stored(store, minutes(0, 30))] == [*range(10), 12, *range(20, 30)]
    assert await _spans(store, minutes(5, 25)) == [(5, 25, 11)]


async def test_a_refresh_with_nothing_leaves_a_confirmed_empty_span(store: Store) -> None:
    await _put(store, minutes(0, 30), bars(range(30)), 10**15)
    await _put(store, minutes(10, 20), bars([]), 10**15 + 1)
    assert await _spans(store, minutes(0, 30)) == [(0, 10, 10), (10, 20, 0), (20, 30, 10)]


async def test_facts_off_the_page_grid_are_kept_to_the_microsecond(store: Store) -> None:
    window = TimeRange(3 * MINUTE + 1, 7 * MINUTE - 1)
    await _put(store, window, bars([4, 5, 6]))
    assert await store.coverage(BTC, minutes(0, 10)) == [Covered(window, 3, 10**15)]


async def test_coverage_tells_touching_spans_as_one_with_the_oldest_answer(store: Store) -> None:
    await _put(store, minutes(0, 10), bars(range(10)), 10**15 + 5)
    await _put(store, minutes(10, 20), bars(range(10, 20)), 10**15)
    await _put(store, minutes(30, 40), bars(range(30, 40)), 10**15 + 7)
    assert await store.coverage(BTC, minutes(0, 100)) == [
        Covered(minutes(0, 20), 20, 10**15),
        Covered(minutes(30, 40), 10, 10**15 + 7),
    ]


@pytest.mark.parametrize("present", [range(100), [*range(20), *range(60, 100)], [3, 50, 97]])
async def test_coverage_counts_rows_exactly_however_the_window_cuts(store: Store, present: list[int]) -> None:
    rows = bars(present)
    for start in range(0, 100, 25):
        window = minutes(start, start + 25)
        inside = bars(slot for slot in present if start <= slot < start + 25)
        await _put(store, window, inside)
    assert rows.num_rows == len(await _stored(store, minutes(0, 100)))
    for start, end in ((0, 100), (1, 99), (10, 11), (24, 26), (30, 95), (19, 61)):
        counted = sum(span.row_count for span in await store.coverage(BTC, minutes(start, end)))
        assert counted == sum(start <= slot < end for slot in present), (start, end)


async def test_an_empty_answer_given_early_says_when_to_ask_again(store: Store) -> None:
    early = Fact(minutes(0, 10), 11 * MINUTE, 0)
    await store.commit(BTC, early, bars([]))
    (span,) = await store.coverage(BTC, minutes(0, 10))
    assert span.recheck_after == early.recheck_after is not None
    assert await store.coverage(BTC, minutes(2, 5)) == [Covered(minutes(2, 5), 0, early.asked_at, early.recheck_after)]


async def test_coverage_of_a_series_never_written_is_nothing(store: Store) -> None:
    assert await store.coverage(ETH, minutes(0, 10)) == []
    assert await store.layout(ETH) is None
    assert await store.quarantined_count(ETH, minutes(0, 10)) == 0
    assert await store.forget(ETH) == 0


async def test_coverage_follows_every_commit(store: Store) -> None:
    for page in range(20):
        start = page * 10
        await _put(store, minutes(start, start + 10), bars(range(start, start + 10)))
        assert await _spans(store, minutes(0, 1000)) == [(0, start + 10, start + 10)]


@pytest.mark.parametrize("count", [1, 5, 10, 11, 25, 99, 100, 1000])
async def test_the_last_rows_are_the_last_rows(store: Store, count: int) -> None:
    for start in range(0, 100, 10):
        await _put(store, minutes(start, start + 10), bars(range(start, start + 10)))
    for before in (100, 500, 95, 40, 1):
        got = [slot for slot, _ in await slots(store.read_last(BTC, count, before * MINUTE))]
        assert got == list(range(min(before, 100)))[-count:]


async def test_the_last_rows_of_a_long_series_come_in_bounded_batches(store: Store) -> None:
    for start in range(0, 60_000, 5000):
        await _put(store, minutes(start, start + 5000), bars(range(start, start + 5000)))
    batches = [batch async for batch in store.read_last(BTC, 45_678, 59_000 * MINUTE)]
    assert sum(batch.num_rows for batch in batches) == 45_678
    assert max(batch.num_rows for batch in batches) <= 21_000
    assert batches[-1].column("open")[-1].as_py() == 58_999


async def test_the_last_rows_skip_gaps(store: Store) -> None:
    await _put(store, minutes(0, 10), bars(range(10)))
    await _put(store, minutes(1000, 1010), bars([1003]))
    assert [slot for slot, _ in await slots(store.read_last(BTC, 3, 2000 * MINUTE))] == [8, 9, 1003]


async def test_the_last_rows_asked_again_are_those_of_the_moment(store: Store) -> None:
    """Whatever a store remembers of the last answer, a commit, a newer answer or a forget in between is seen."""

    async def last(count: int) -> list[tuple[int, float]]:
        await store.coverage(BTC, minutes(0, 100))
        return await slots(store.read_last(BTC, count, 100 * MINUTE))

    await _put(store, minutes(0, 10), bars(range(10)))
    for _ in range(2):
        assert [slot for slot, _ in await last(4)] == [6, 7, 8, 9]
        assert [slot for slot, _ in await last(2)] == [8, 9]
    await _put(store, minutes(10, 12), bars([10, 11]))
    assert [slot for slot, _ in await last(4)] == [8, 9, 10, 11]
    newer = bars([8, 11], price=7.0)
    await store.commit(BTC, answer(minutes(8, 12), newer, asked_at=10**16), newer)
    assert [slot for slot, _ in await last(4)] == [6, 7, 8, 11]
    assert (await last(1))[0][1] != 1.0
    await store.forget(BTC, minutes(8, 12))
    assert [slot for slot, _ in await last(2)] == [6, 7]
    await store.forget(BTC)
    assert await last(2) == []


async def test_a_read_resumes_after_a_key(store: Store) -> None:
    await _put(store, minutes(0, 100), bars(range(100)))
    got = await slots(store.read(BTC, minutes(0, 100), RowKey(41 * MINUTE)))
    assert [slot for slot, _ in got] == list(range(42, 100))
    assert await slots(store.read(BTC, minutes(0, 100), RowKey(99 * MINUTE))) == []
    assert await slots(store.read(BTC, minutes(0, 100), RowKey(500 * MINUTE))) == []
    early = await slots(store.read(BTC, minutes(50, 52), RowKey(3 * MINUTE)))
    assert [slot for slot, _ in early] == [50, 51]


async def test_trades_of_one_instant_keep_their_order_and_resume_between(store: Store) -> None:
    keys = [(1, 0), (2, 0), (2, 1), (2, 2), (3, 0)]
    rows = trades(keys)
    window = TimeRange(0, 10 * MICROS_PER_MS)
    await store.commit(BTC_TRADES, answer(window, rows), rows)
    table = await all_rows(store.read(BTC_TRADES, window), TRADES)
    assert table.combine_chunks().to_batches() == [rows]
    for done, key in enumerate(keys):
        after = RowKey(key[0] * MICROS_PER_MS, key[1])
        rest = await all_rows(store.read(BTC_TRADES, window, after), TRADES)
        assert rest["id"].to_pylist() == [f"{ms}-{seq}" for ms, seq in keys[done + 1 :]]


async def test_the_last_trades_may_begin_within_an_instant(store: Store) -> None:
    rows = trades([(1, 0), (2, 0), (2, 1), (2, 2)])
    await store.commit(BTC_TRADES, answer(TimeRange(0, 10 * MICROS_PER_MS), rows), rows)
    table = await all_rows(store.read_last(BTC_TRADES, 2, 10 * MICROS_PER_MS), TRADES)
    assert table["id"].to_pylist() == ["2-1", "2-2"]


async def test_many_trades_are_read_back_equal_in_bounded_batches(store: Store) -> None:
    keys = [(number // 7, number % 7) for number in range(40_000)]
    window = TimeRange(0, 6000 * MICROS_PER_MS)
    rows = trades(keys)
    await store.commit(BTC_TRADES, answer(window, rows), rows)
    batches = [batch async for batch in store.read(BTC_TRADES, window)]
    assert max(batch.num_rows for batch in batches) <= 21_000
    assert max(batch.get_total_buffer_size() for batch in batches) <= 2 << 20
    resumed = await all_rows(store.read(BTC_TRADES, window, RowKey(2340 * MICROS_PER_MS, 3)), TRADES)
    assert resumed["id"].to_pylist() == [f"{ms}-{seq}" for ms, seq in keys if (ms, seq) > (2340, 3)]


async def test_trades_keep_microseconds_nulls_and_any_text(store: Store) -> None:
    columns = [
        pa.array([1, 1, 1_000_001], pa.int64()).cast(TRADES.field("ts").type),
        pa.array([0, 1, 0], pa.int32()),
        pa.array(["é" * 90, "", "0007"]),
        pa.array([None, 0.1, 1e-12]),
        pa.array([2.5, None, 3.0]),
        pa.array(["sell", None, "buy"]),
    ]
    rows = pa.RecordBatch.from_arrays(columns, schema=TRADES)
    window = TimeRange(0, 2 * MICROS_PER_S)
    await store.commit(BTC_TRADES, answer(window, rows), rows)
    assert (await all_rows(store.read(BTC_TRADES, window), TRADES)).to_pylist() == rows.to_pylist()
    last = await all_rows(store.read_last(BTC_TRADES, 2, window.end), TRADES)
    assert last.to_pylist() == rows.to_pylist()[1:]


async def test_answers_for_trades_side_by_side_read_as_one_and_a_newer_one_replaces_its_time(store: Store) -> None:
    for ms in range(0, 3000, 300):
        rows = trades([(ms + at // 3, at % 3) for at in range(900)])
        await store.commit(BTC_TRADES, answer(_millis(ms, ms + 300), rows), rows)
    newer = trades([(1000, 0), (1000, 1), (1250, 0)], price=2.0)
    await store.commit(BTC_TRADES, answer(_millis(950, 1300), newer, 10**15 + 1), newer)
    table = await all_rows(store.read(BTC_TRADES, _millis(0, 3000)), TRADES)
    kept = [(ms, seq) for ms in range(3000) if not 950 <= ms < 1300 for seq in range(3)]
    wanted = sorted([*kept, (1000, 0), (1000, 1), (1250, 0)])
    assert table["id"].to_pylist() == [f"{ms}-{seq}" for ms, seq in wanted]
    assert [span.row_count for span in await store.coverage(BTC_TRADES, _millis(0, 3000))] == [len(wanted)]
    [part] = await store.coverage(BTC_TRADES, _millis(940, 1001))
    assert part.row_count == 32
    assert await store.forget(BTC_TRADES, _millis(900, 1200)) == 152


def _millis(start: int, end: int) -> TimeRange:
    return TimeRange(start * MICROS_PER_MS, end * MICROS_PER_MS)


async def test_forgetting_a_range_removes_rows_and_facts_together(store: Store) -> None:
    await _put(store, minutes(0, 100), bars(range(100)))
    assert await store.forget(BTC, minutes(30, 50)) == 20
    assert [slot for slot, _ in await _stored(store, minutes(0, 100))] == [*range(30), *range(50, 100)]
    assert await _spans(store, minutes(0, 100)) == [(0, 30, 30), (50, 100, 50)]
    assert await store.layout(BTC) == Layout(1000)
    await _put(store, minutes(30, 50), bars(range(30, 50)), 1)
    assert await _spans(store, minutes(0, 100)) == [(0, 100, 100)]


async def test_forgetting_a_series_leaves_no_trace_of_it(store: Store) -> None:
    await store.open_series(ETH, ORIGIN, Layout(500))
    await _put(store, minutes(0, 100), bars(range(100)))
    assert await store.forget(BTC) == 100
    assert await store.layout(BTC) is None
    assert await store.coverage(BTC, minutes(0, 100)) == []
    assert await _stored(store, minutes(0, 100)) == []
    assert await store.layout(ETH) == Layout(500)


async def test_the_first_layout_of_a_series_holds(store: Store) -> None:
    assert await store.open_series(ETH, ORIGIN, Layout(500, 7)) == Layout(500, 7)
    assert await store.open_series(ETH, ORIGIN, Layout(1000)) == Layout(500, 7)
    assert await store.layout(ETH) == Layout(500, 7)


async def test_another_origin_is_refused_until_the_exchange_is_forgotten(store: Store) -> None:
    other = Origin("testnet.binance.vision", sandbox=True)
    with pytest.raises(OriginMismatch) as refused:
        await store.open_series(ETH, other, Layout(1000))
    assert refused.value.metadata == {
        "exchange": "binance",
        "stored": "api.binance.com",
        "asked": "testnet.binance.vision (sandbox)",
    }
    assert await store.layout(ETH) is None
    await store.open_series(SeriesId.parse("ohlcv:kraken:BTC/USD:1h"), Origin("api.kraken.com"), Layout(720))
    for series in (BTC, BTC_TRADES):
        await store.forget(series)
    await store.open_series(ETH, other, Layout(1000))


async def test_rows_set_aside_are_counted_and_replaced_with_their_range(store: Store) -> None:
    bad = [Quarantined(3 * MINUTE, "high below low", "[3]"), Quarantined(None, "no time", "[null]")]
    rows = bars([0, 1])
    await store.commit(BTC, answer(minutes(0, 10), rows, 1), rows, bad)
    assert await store.quarantined_count(BTC, minutes(0, 10)) == 2
    assert await store.quarantined_count(BTC, minutes(3, 4)) == 1
    assert await store.quarantined_count(BTC, minutes(4, 10)) == 0
    await _put(store, minutes(2, 10), bars(range(2, 10)), 2)
    assert await store.quarantined_count(BTC, minutes(0, 10)) == 1
    await store.forget(BTC, minutes(0, 2))
    assert await store.quarantined_count(BTC, minutes(0, 10)) == 0


async def test_rows_set_aside_by_an_older_answer_do_not_come_back(store: Store) -> None:
    await _put(store, minutes(0, 10), bars(range(10)), 2)
    rows = bars([0])
    await store.commit(BTC, answer(minutes(0, 10), rows, 1), rows, [Quarantined(3 * MINUTE, "bad", "[]")])
    assert await store.quarantined_count(BTC, minutes(0, 10)) == 0


async def test_series_are_listed_with_what_is_stored(store: Store) -> None:
    await _put(store, minutes(10, 20), bars(range(11, 19)))
    await _put(store, minutes(30, 40), bars([]))
    (listed,) = await store.list_series("ohlcv:*", "", 10)
    assert (listed.series, listed.first, listed.last, listed.row_count) == (BTC, 11 * MINUTE, 18 * MINUTE, 8)
    assert listed.covered == minutes(10, 40)
    assert listed.byte_count > 8 * 48
    (empty,) = await store.list_series("trades:*", "", 10)
    assert (empty.series, empty.first, empty.last, empty.row_count, empty.covered) == (BTC_TRADES, None, None, 0, None)


async def test_series_are_listed_in_order_page_by_page_and_by_pattern(store: Store) -> None:
    names = [f"ohlcv:binance:{base}/USDT:1m" for base in ("ADA", "BTC", "ETH", "X[1]", "x[1]")]
    for name in names:
        await store.open_series(SeriesId.parse(name), ORIGIN, Layout(1000))
    first = await store.list_series("ohlcv:*", "", 2)
    assert [str(one.series) for one in first] == names[:2]
    rest = await store.list_series("ohlcv:*", names[1], 10)
    assert [str(one.series) for one in rest] == names[2:]
    assert [str(one.series) for one in await store.list_series("*:X[1]/????:1m", "", 10)] == names[3:4]
    assert [str(one.series) for one in await store.list_series("*", names[-1], 10)] == [str(BTC_TRADES)]


async def test_rows_that_are_not_the_facts_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="3 rows came with 2"):
        await store.commit(BTC, Fact(minutes(0, 10), 1, 3), bars([1, 2]))
    for slot in (-1, 10):
        with pytest.raises(ValueError, match="outside"):
            await store.commit(BTC, Fact(minutes(0, 10), 1, 1), bars([slot]))
    with pytest.raises(ValueError, match="open_series"):
        await store.commit(ETH, answer(minutes(0, 10), bars([1])), bars([1]))
    assert await store.coverage(BTC, minutes(0, 10)) == []


async def test_a_read_closed_early_leaves_the_store_usable(store: Store) -> None:
    await _put(store, minutes(0, 50_000), bars(range(50_000)))
    for _ in range(50):
        reading = store.read(BTC, minutes(0, 50_000))
        await anext(reading)
        await reading.aclose()
    assert len(await _stored(store, minutes(0, 50_000))) == 50_000


async def test_a_series_grown_bar_by_bar_reads_as_one(store: Store) -> None:
    for slot in range(700):
        await _put(store, minutes(slot, slot + 1), bars([slot]))
    assert [slot for slot, _ in await _stored(store, minutes(0, 700))] == list(range(700))
    assert await _spans(store, minutes(0, 700)) == [(0, 700, 700)]
    assert [batch.num_rows async for batch in store.read(BTC, minutes(0, 700))] == [700]


async def test_the_origin_of_an_exchange_is_told(store: Store) -> None:
    assert await store.origin("binance") == ORIGIN
    assert await store.origin("kraken") is None


async def test_rows_set_aside_are_listed_as_they_were(store: Store) -> None:
    bad = [Quarantined(None, "no time", "[null]"), Quarantined(3 * MINUTE, "high below low", "[3]")]
    rows = bars([0, 1])
    await store.commit(BTC, answer(minutes(0, 10), rows), rows, bad)
    assert await store.quarantined(BTC, minutes(0, 10)) == bad
    assert await store.quarantined(BTC, minutes(3, 4)) == bad[1:]
    assert await store.quarantined(ETH, minutes(0, 10)) == []
