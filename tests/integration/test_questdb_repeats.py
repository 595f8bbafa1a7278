"""QuestDB deletes nothing: what an answer only says again is not written again, and counts as before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from historyd.model.page import Layout
from historyd.model.rows import Quarantined
from historyd.model.venue import Origin
from historyd.stores.questdb import open_questdb
from tests.rows import BTC, MINUTE, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from historyd.stores.questdb import QuestDbStore
    from historyd.stores.questdb_options import QuestDbOptions
    from tests.questdb_server import QuestDb

ORIGIN = Origin("api.binance.com")
POINTS = 120


@pytest.fixture
def options(questdb: QuestDb) -> QuestDbOptions:
    return questdb.options()


@pytest.fixture
async def pair(options: QuestDbOptions) -> AsyncIterator[tuple[QuestDbStore, QuestDbStore]]:
    """Two servers of one history."""
    async with open_questdb(options) as one, open_questdb(options) as other:
        for store in (one, other):
            await store.open_series(BTC, ORIGIN, Layout(1000))
        yield one, other


async def _put(store: QuestDbStore, at: range, asked_at: int, price: float = 1.0) -> None:
    rows = bars(at, price)
    await store.commit(BTC, answer(minutes(at.start, at.stop), rows, asked_at), rows)


async def _written(store: QuestDbStore, options: QuestDbOptions) -> int:
    """Rows on the disk, whether they count or not."""
    ((count,),) = await store._link.fetch(f"SELECT count() FROM {options.tables.bars}")
    return int(count)


async def test_a_page_followed_bar_by_bar_by_two_servers_is_written_few_times(
    pair: tuple[QuestDbStore, QuestDbStore], options: QuestDbOptions
) -> None:
    """Whole pages would be 11,325 rows. All of it is as if they had been written."""
    for end in range(1, 151):
        store = pair[end % 2]
        await store.coverage(BTC, minutes(0, end))  # as the engine does before it asks
        await _put(store, range(end), asked_at=end)
    assert await _written(pair[0], options) <= 150 * 8
    for store in pair:
        (span,) = await store.coverage(BTC, minutes(0, 1000))
        assert (span.range, span.row_count, span.checked_at) == (minutes(0, 150), 150, 150)
        assert await slots(store.read(BTC, minutes(0, 1000))) == [(slot, 1.0) for slot in range(150)]
        assert await slots(store.read_last(BTC, 120, 1000 * MINUTE)) == [(slot, 1.0) for slot in range(30, 150)]


async def test_a_page_that_is_full_lies_in_one_part(options: QuestDbOptions) -> None:
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(40))
        await store.coverage(BTC, minutes(0, 80))
        for end in range(1, 46):
            await _put(store, range(end // 41 * 40, end), asked_at=end)
        segments = await store._journal.segments(BTC)
        assert segments is not None
        assert segments.all()[0].range == minutes(0, 40)
        assert await slots(store.read(BTC, minutes(0, 80))) == [(slot, 1.0) for slot in range(45)]


async def test_a_refresh_that_brings_nothing_new_writes_no_row_and_is_dated(
    pair: tuple[QuestDbStore, QuestDbStore], options: QuestDbOptions
) -> None:
    store = pair[0]
    await store.coverage(BTC, minutes(0, 10))
    await _put(store, range(1000), asked_at=1)
    await _put(store, range(1000), asked_at=2)
    assert await _written(store, options) == 1000
    (span,) = await pair[1].coverage(BTC, minutes(0, 1000))
    assert (span.row_count, span.checked_at) == (1000, 2)
    await _put(pair[1], range(1000), asked_at=3, price=2.0)
    assert await slots(store.read(BTC, minutes(0, 1000))) == [(slot, 2.0) for slot in range(1000)]


async def test_rows_set_aside_stay_with_the_answer_that_they_came_with(
    pair: tuple[QuestDbStore, QuestDbStore],
) -> None:
    """Such an answer is written whole, and is never the one that is kept."""
    store, rows = pair[0], bars(range(100))
    bad = [Quarantined(5 * MINUTE, "bad", "[]")]
    await store.coverage(BTC, minutes(0, 10))
    for asked_at, aside in enumerate([[], bad, bad, []]):
        await store.commit(BTC, answer(minutes(0, 100), rows, asked_at), rows, aside)
        assert await store.quarantined(BTC, minutes(0, 100)) == aside
        assert len(await slots(store.read(BTC, minutes(0, 100)))) == 100


async def test_rows_that_were_lost_are_written_again(
    pair: tuple[QuestDbStore, QuestDbStore], options: QuestDbOptions
) -> None:
    """A page that cannot be read is mended by a refresh, though the answer is the same."""
    store = pair[0]
    await store.coverage(BTC, minutes(0, 10))
    await _put(store, range(100), asked_at=1)
    await store._link.execute(f"TRUNCATE TABLE {options.tables.bars}")
    await _put(store, range(100), asked_at=2)
    assert len(await slots(store.read(BTC, minutes(0, 100)))) == 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_answers_that_repeat_each_other_in_any_order_end_as_the_newest_says(
    pair: tuple[QuestDbStore, QuestDbStore], options: QuestDbOptions, seed: int
) -> None:
    """Against a naive model: for each minute the newest answer's price, None where it had no bar."""
    chance = random.Random(seed)
    model: dict[int, tuple[int, float | None]] = {}
    ages = list(range(120))
    chance.shuffle(ages)
    for number, asked_at in enumerate(ages):
        store = pair[chance.randrange(2)]
        start = chance.choice([0, 30, chance.randrange(POINTS)])
        window = range(start, min(POINTS, start + chance.randrange(1, 60)))
        if number % 13 == 0:
            await store.forget(BTC, minutes(window.start, window.stop))
            model = {slot: known for slot, known in model.items() if slot not in window}
            continue
        await store.coverage(BTC, minutes(0, 1))
        at, price = [slot for slot in window if chance.random() < 0.95], chance.choice([1.0, 1.0, 1.0, 2.0])
        rows = bars(at, price)
        await store.commit(BTC, answer(minutes(window.start, window.stop), rows, asked_at), rows)
        for slot in window:
            if slot not in model or model[slot][0] <= asked_at:
                model[slot] = (asked_at, price if slot in at else None)
    wanted = [(slot, price) for slot, (_, price) in sorted(model.items()) if price is not None]
    async with open_questdb(options) as fresh:
        for store in (*pair, fresh):
            assert await slots(store.read(BTC, minutes(0, POINTS))) == wanted
            assert await slots(store.read_last(BTC, 50, POINTS * MINUTE)) == wanted[-50:]
            spans = await store.coverage(BTC, minutes(0, POINTS))
            assert sum(span.row_count for span in spans) == len(wanted)
            covered = {slot for slot in range(POINTS) for span in spans if slot * MINUTE in span.range}
            assert covered == set(model)
