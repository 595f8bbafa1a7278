"""Two servers on one QuestDB: one history, whoever wrote it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from historyd.errors import OriginMismatch
from historyd.model.page import Layout
from historyd.model.series import SeriesId
from historyd.model.venue import Origin
from historyd.stores.questdb import open_questdb
from tests.rows import BTC, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from historyd.model.time_range import TimeRange
    from historyd.stores.questdb import QuestDbStore
    from tests.questdb_server import QuestDb

ORIGIN = Origin("api.binance.com")
Pair = tuple["QuestDbStore", "QuestDbStore"]


@pytest.fixture
async def pair(questdb: QuestDb) -> AsyncIterator[Pair]:
    """Two servers' stores on the same tables, opened at the same moment."""
    options = questdb.options()
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(stack.enter_async_context(open_questdb(options)) for _ in range(2)))
        yield opened[0], opened[1]


async def _put(store: QuestDbStore, window: TimeRange, at: range, price: float = 1.0, asked_at: int = 1) -> None:
    rows = bars(at, price)
    await store.commit(BTC, answer(window, rows, asked_at), rows)


async def test_servers_that_start_together_agree_on_the_stores_name(pair: Pair) -> None:
    one, other = pair
    assert one.uuid == other.uuid != ""


async def test_what_one_has_covered_the_other_knows_and_reads(pair: Pair) -> None:
    one, other = pair
    await one.open_series(BTC, ORIGIN, Layout(1000))
    for page in range(3):
        await _put(one, minutes(page * 10, page * 10 + 10), range(page * 10, page * 10 + 10))
        (span,) = await other.coverage(BTC, minutes(0, 1000))
        assert (span.range, span.row_count) == (minutes(0, page * 10 + 10), page * 10 + 10)
    assert await other.layout(BTC) == Layout(1000)
    assert [slot for slot, _ in await slots(other.read(BTC, minutes(0, 100)))] == list(range(30))


async def test_of_layouts_asked_for_at_once_one_holds_for_all(pair: Pair) -> None:
    for number in range(20):
        series = SeriesId.parse(f"ohlcv:binance:R{number}/USDT:1m")
        given = await asyncio.gather(
            *(store.open_series(series, ORIGIN, Layout(100 + place)) for place, store in enumerate(pair))
        )
        assert given[0] == given[1] == await pair[0].layout(series) == await pair[1].layout(series)


async def test_of_origins_asked_for_at_once_one_holds_and_the_other_is_refused(pair: Pair) -> None:
    series = [SeriesId.parse(f"ohlcv:kraken:{base}/USD:1m") for base in ("A", "B")]
    origins = [Origin("api.kraken.com"), Origin("demo.kraken.com", sandbox=True)]
    given = await asyncio.gather(
        *(pair[n].open_series(series[n], origins[n], Layout(720)) for n in (0, 1)), return_exceptions=True
    )
    assert sorted(isinstance(one, OriginMismatch) for one in given) == [False, True]
    listed = [[str(one.series) for one in await store.list_series("*", "", 9)] for store in pair]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 1


async def test_a_late_older_answer_of_another_server_changes_nothing(pair: Pair) -> None:
    """Both write the same page; the one asked later counts whoever is last to commit."""
    one, other = pair
    for store in pair:
        await store.open_series(BTC, ORIGIN, Layout(1000))
    await _put(one, minutes(0, 10), range(5), 2.0, asked_at=2)
    await _put(other, minutes(0, 10), range(10), 1.0, asked_at=1)
    for store in pair:
        assert await slots(store.read(BTC, minutes(0, 10))) == [(slot, 2.0) for slot in range(5)]
        (span,) = await store.coverage(BTC, minutes(0, 10))
        assert (span.row_count, span.checked_at) == (5, 2)


async def test_servers_that_write_at_once_end_with_the_same_history(pair: Pair) -> None:
    """Overlapping answers in any order: each instant has the newest, for both and for one that starts later."""
    for store in pair:
        await store.open_series(BTC, ORIGIN, Layout(1000))
    tasks = [
        _put(pair[number % 2], minutes(number * 7, number * 7 + 20), range(number * 7, number * 7 + 20), number, number)
        for number in range(1, 41)
    ]
    await asyncio.gather(*tasks)
    wanted = [(slot, float(min(40, slot // 7))) for slot in range(7, 40 * 7 + 20)]
    for store in pair:
        assert await slots(store.read(BTC, minutes(0, 1000))) == wanted
        (span,) = await store.coverage(BTC, minutes(0, 1000))
        assert (span.range, span.row_count) == (minutes(7, 300), 293)


async def test_a_server_that_starts_later_finds_all_of_it(questdb: QuestDb) -> None:
    options = questdb.options()
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(1000, 60_000_000))
        await _put(store, minutes(0, 100), range(100), 1.0, 1)
        await _put(store, minutes(40, 50), range(44, 46), 2.0, 2)
        await store.forget(BTC, minutes(90, 100))
        before = await store.coverage(BTC, minutes(0, 100)), await slots(store.read(BTC, minutes(0, 100)))
        name = store.uuid
    async with open_questdb(options) as store:
        assert (await store.coverage(BTC, minutes(0, 100)), await slots(store.read(BTC, minutes(0, 100)))) == before
        assert (store.uuid, await store.layout(BTC)) == (name, Layout(1000, 60_000_000))
        assert len(before[1]) == 82


async def test_what_one_forgets_the_other_does_not_serve(pair: Pair) -> None:
    one, other = pair
    for store in pair:
        await store.open_series(BTC, ORIGIN, Layout(1000))
    await _put(one, minutes(0, 100), range(100))
    await other.forget(BTC, minutes(10, 20))
    assert [slot for slot, _ in await slots(one.read(BTC, minutes(0, 30)))] == [*range(10), *range(20, 30)]
    await other.forget(BTC)
    assert await one.layout(BTC) is None
    assert await one.coverage(BTC, minutes(0, 100)) == []


async def test_rows_forgotten_do_not_come_back_with_what_is_written_after(pair: Pair) -> None:
    """Their bytes are still in the table; a new answer for their range must not make them count again."""
    one, other = pair
    for store in pair:
        await store.open_series(BTC, ORIGIN, Layout(1000))
    await _put(one, minutes(0, 3000), range(3000), 1.0, 5)
    await other.forget(BTC)
    await _put(one, minutes(0, 3000), range(0, 3000, 2), 2.0, 5)
    assert await slots(other.read(BTC, minutes(0, 3000))) == [(slot, 2.0) for slot in range(0, 3000, 2)]
    assert await slots(other.read_last(BTC, 2, 3000 * 60_000_000)) == [(2996, 2.0), (2998, 2.0)]


async def test_a_symbol_with_a_quote_is_a_symbol(pair: Pair) -> None:
    """Bulk reads cannot bind values."""
    series = SeriesId.parse("ohlcv:binance:X'OR'1'='1/USDT:1m")
    for name in (series, BTC):
        await pair[0].open_series(name, ORIGIN, Layout(1000))
        rows = bars(range(3000), float(len(str(name))))
        await pair[0].commit(name, answer(minutes(0, 3000), rows), rows)
    got = await slots(pair[1].read(series, minutes(0, 3000)))
    assert got == [(slot, float(len(str(series)))) for slot in range(3000)]
