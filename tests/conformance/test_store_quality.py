"""What every store promises of rows set aside and of rows revised, run on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from historyd.model.page import Layout
from historyd.model.rows import Quarantined
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_MS, TimeRange
from historyd.model.venue import Origin
from tests.rows import BTC, BTC_TRADES, MINUTE, answer, bars, minutes, trades

if TYPE_CHECKING:
    from historyd.stores.base import Store

ORIGIN = Origin("api.binance.com")
ETH = SeriesId.parse("ohlcv:binance:ETH/USDT:1m")


async def _put(store: Store, window: TimeRange, rows: pa.RecordBatch, asked_at: int = 10**15) -> None:
    await store.commit(BTC, answer(window, rows, asked_at), rows)


async def test_rows_set_aside_are_counted_at_their_time_or_where_the_question_began(store: Store) -> None:
    outside = Quarantined(50 * MINUTE, "superseded", "[50]")
    bad = [Quarantined(3 * MINUTE, "off_grid", "[3]"), Quarantined(None, "no_timestamp", "[null]"), outside]
    rows = bars([4])
    await store.commit(BTC, answer(minutes(2, 10), rows), rows, bad)
    listed = await store.quarantined(BTC, minutes(0, 100))
    assert sorted(one.at // MINUTE for one in listed if one.at is not None) == [2, 2, 3]
    assert [one.at for one in listed] == sorted(one.at for one in listed if one.at is not None)


async def test_times_at_which_a_newer_answer_differs_are_revised(store: Store) -> None:
    """One is changed, one goes, one comes; what is equal or was never answered before is none."""
    await _put(store, minutes(0, 20), bars([slot for slot in range(20) if slot != 12]), 1)
    assert await store.revised(BTC, minutes(0, 100)) == []
    changed = pa.concat_batches([bars(range(5, 8)), bars([8], 2.0), bars([10, 11, 12]), bars(range(13, 30))])
    await _put(store, minutes(5, 30), changed, 2)
    assert await store.revised(BTC, minutes(0, 100)) == [8 * MINUTE, 9 * MINUTE, 12 * MINUTE]
    assert await store.revised(BTC, minutes(9, 12)) == [9 * MINUTE]
    assert await store.revised(BTC, TimeRange(8 * MINUTE + 1, 9 * MINUTE)) == []
    assert await store.revised(ETH, minutes(0, 100)) == []


async def test_a_time_revised_again_or_back_counts_once(store: Store) -> None:
    for asked_at, price in enumerate([1.0, 2.0, 2.0, 1.0]):
        await _put(store, minutes(0, 10), pa.concat_batches([bars([0]), bars([1], price)]), asked_at)
    assert await store.revised(BTC, minutes(0, 10)) == [MINUTE]


async def test_an_older_answer_that_comes_late_revises_nothing(store: Store) -> None:
    await _put(store, minutes(0, 10), bars(range(10), 2.0), 2)
    await _put(store, minutes(0, 10), bars(range(10), 1.0), 1)
    assert await store.revised(BTC, minutes(0, 10)) == []


async def test_a_page_asked_for_again_as_it_grows_is_not_revised(store: Store) -> None:
    for closed in range(1, 60):
        await _put(store, minutes(0, closed), bars(range(0, closed, 2)), closed)
    assert await store.revised(BTC, minutes(0, 100)) == []
    grown = pa.concat_batches([bars(range(0, 30, 2)), bars(range(30, 60, 2), 3.0)])
    await _put(store, minutes(0, 60), grown, 100)
    assert await store.revised(BTC, minutes(0, 100)) == [slot * MINUTE for slot in range(30, 59, 2)]


async def test_a_null_that_stays_null_is_not_revised_and_one_that_is_filled_is(store: Store) -> None:
    rows = bars([0, 1, 2])
    holes = rows.set_column(5, rows.schema.field(5), pa.array([1.0, None, 1.0]))
    for asked_at, answered in enumerate([holes, holes, rows]):
        assert await store.revised(BTC, minutes(0, 10)) == []
        await _put(store, minutes(0, 10), answered, asked_at)
    assert await store.revised(BTC, minutes(0, 10)) == [MINUTE]


async def test_many_revised_times_are_all_found(store: Store) -> None:
    await _put(store, minutes(0, 5000), bars(range(5000)), 1)
    spoilt = set(range(7, 5000, 7)) | set(range(2000, 3000))
    parts = [bars([slot], 2.0 if slot in spoilt else 1.0) for slot in range(5000)]
    await _put(store, minutes(0, 5000), pa.concat_batches(parts), 2)
    assert await store.revised(BTC, minutes(0, 5000)) == [slot * MINUTE for slot in sorted(spoilt)]


async def test_what_is_forgotten_was_not_revised(store: Store) -> None:
    await _put(store, minutes(0, 10), bars(range(10)), 1)
    await _put(store, minutes(0, 10), bars(range(10), 2.0), 2)
    await store.forget(BTC, minutes(0, 8))
    assert await store.revised(BTC, minutes(0, 10)) == [8 * MINUTE, 9 * MINUTE]
    await _put(store, minutes(0, 8), bars(range(8), 5.0), 3)
    assert await store.revised(BTC, minutes(0, 10)) == [8 * MINUTE, 9 * MINUTE]
    await store.forget(BTC)
    assert await store.revised(BTC, minutes(0, 10)) == []
    await store.open_series(BTC, ORIGIN, Layout(1000))
    await _put(store, minutes(0, 10), bars(range(10)), 4)
    assert await store.revised(BTC, minutes(0, 10)) == []


async def test_an_instant_of_trades_is_revised_if_one_of_them_is(store: Store) -> None:
    window = TimeRange(0, 10 * MICROS_PER_MS)
    for asked_at, keys in enumerate([[(1, 0), (2, 0), (2, 1)], [(1, 0), (2, 0), (2, 1), (2, 2)]]):
        rows = trades(keys)
        await store.commit(BTC_TRADES, answer(window, rows, asked_at), rows)
    assert await store.revised(BTC_TRADES, window) == [2 * MICROS_PER_MS]
