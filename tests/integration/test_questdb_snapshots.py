"""Snapshots of the journal: a start replays little, and comes to what a replay of everything comes to."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from historyd.errors import StoreUnavailable
from historyd.model.page import Layout
from historyd.model.rows import Quarantined
from historyd.model.venue import Origin
from historyd.stores import questdb_snapshots
from historyd.stores.questdb import open_questdb
from historyd.stores.questdb_snapshots import NOTHING, Snapshot, Snapshots
from tests.rows import BTC, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from historyd.stores.questdb import QuestDbStore
    from historyd.stores.questdb_options import QuestDbOptions
    from tests.questdb_server import QuestDb

ORIGIN = Origin("api.binance.com")
FEW = 20
"""After so many records a snapshot is taken in the tests that set it."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots of few segments, in many parts."""
    monkeypatch.setattr(questdb_snapshots, "_FEWEST_RECORDS", FEW)
    monkeypatch.setattr(questdb_snapshots, "_PART", 7)


async def _put(store: QuestDbStore, start: int, end: int, price: float = 1.0, asked_at: int = 1) -> None:
    rows = bars(range(start, end), price)
    await store.commit(BTC, answer(minutes(start, end), rows, asked_at), rows)


async def _follow(store: QuestDbStore, at: Iterable[int]) -> None:
    """Bar by bar, each an answer of its own."""
    await store.open_series(BTC, ORIGIN, Layout(1000))
    await asyncio.gather(*(_put(store, slot, slot + 1, asked_at=slot) for slot in at))
    await store.coverage(BTC, minutes(0, 1))


async def _state(store: QuestDbStore) -> tuple[object, ...]:
    """All that can be known of the series, by reading and from the inside."""
    spans = await store.coverage(BTC, minutes(0, 10_000))
    rows = await slots(store.read(BTC, minutes(0, 10_000)))
    segments = await store._journal.segments(BTC)
    return spans, rows, await store.quarantined(BTC, minutes(0, 10_000)), list(segments.all()) if segments else None


async def _fresh_state(options: QuestDbOptions) -> tuple[tuple[object, ...], int]:
    """What a server that starts now knows, and how many records it replayed for that."""
    replayed = 0
    async with open_questdb(options) as store:
        fetch = store._link.fetch

        async def counting(statement: str, *values: object) -> Sequence[Any]:
            nonlocal replayed
            rows = await fetch(statement, *values)
            replayed += len(rows) if statement == store._sql["journal_of_series"] else 0
            return rows

        with pytest.MonkeyPatch.context() as counted:
            counted.setattr(store._link, "fetch", counting)
            return await _state(store), replayed


async def _state_of_all_records(options: QuestDbOptions) -> tuple[object, ...]:
    """What a server without snapshots would know."""

    async def nothing(*_: object) -> Snapshot:
        return NOTHING

    with pytest.MonkeyPatch.context() as without:
        without.setattr(Snapshots, "newest", nothing)
        return (await _fresh_state(options))[0]


async def _rows_of_snapshots(options: QuestDbOptions) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(options.dsn)
    try:
        return [tuple(row) for row in await connection.fetch(f"SELECT * FROM {options.tables.snapshots}")]
    finally:
        await connection.close()


async def test_a_series_followed_bar_by_bar_is_not_replayed_for_ever(questdb: QuestDb) -> None:
    options = questdb.options()
    async with open_questdb(options) as store:
        await _follow(store, range(1100))
        await _follow(store, range(1100, 1105))
        known = await _state(store)
        snapshots = store._journal._snapshots
        position = (await snapshots.newest(BTC, store._journal._length)).position
        assert position > 1000
        assert await snapshots.newest(BTC, position - 1) == NOTHING
    found, replayed = await _fresh_state(options)
    assert found == known == await _state_of_all_records(options)
    assert replayed <= 5
    assert sorted(row[5] for row in await _rows_of_snapshots(options)) == [0, 1]


async def test_a_long_replay_leaves_a_snapshot(questdb: QuestDb, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of servers that took none."""
    options = questdb.options()
    async with open_questdb(options) as store:
        await _follow(store, range(50))
    monkeypatch.setattr(questdb_snapshots, "_FEWEST_RECORDS", FEW)
    first, second = await _fresh_state(options), await _fresh_state(options)
    assert first[0] == second[0]
    assert (first[1], second[1]) == (51, 0)


@pytest.mark.usefixtures("often")
async def test_what_comes_after_a_snapshot_counts_as_it_did_before(questdb: QuestDb) -> None:
    """Forgetting, a refresh, an answer that comes too late, rows set aside: on either side of the snapshot."""
    options = questdb.options()
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(1000))
        rows = bars(range(100, 200, 3), 2.0)
        await store.commit(BTC, answer(minutes(100, 200), rows, 150), rows, [Quarantined(5, "bad", "[]")])
        await _follow(store, range(FEW + 5))
        assert await _rows_of_snapshots(options)
        await store.forget(BTC, minutes(5, 8))
        await _put(store, 2, 4, 3.0, asked_at=9)
        await _put(store, 110, 112, 4.0, asked_at=149)
        await _put(store, 120, 122, 5.0, asked_at=151)
        known = await _state(store)
    found, replayed = await _fresh_state(options)
    assert found == known == await _state_of_all_records(options)
    assert replayed == 4
    spans: Any = found[0]
    assert [(span.range, span.row_count) for span in spans] == [
        (minutes(0, 5), 5),
        (minutes(8, FEW + 5), FEW - 3),
        (minutes(100, 200), 35),
    ]


@pytest.mark.usefixtures("often")
async def test_a_series_that_was_forgotten_does_not_come_back_from_a_snapshot(questdb: QuestDb) -> None:
    options = questdb.options()
    async with open_questdb(options) as store:
        await _follow(store, range(FEW + 5))
        assert await _rows_of_snapshots(options)
        await store.forget(BTC)
        async with open_questdb(options) as other:
            assert await _state(other) == ([], [], [], None)
        await _follow(store, range(3))
    found, _ = await _fresh_state(options)
    assert found[1] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert found == await _state_of_all_records(options)


@pytest.mark.usefixtures("often")
async def test_a_snapshot_whose_writer_was_killed_is_left_alone(
    questdb: QuestDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has some of its parts; the one before it is used, and the next one is taken."""
    options = questdb.options()
    async with open_questdb(options) as store:
        await _follow(store, range(FEW + 5))
        before = await _rows_of_snapshots(options)
        insert = store._link.insert

        async def killed(statement: str, rows: Sequence[Sequence[object]]) -> None:
            if statement == store._sql["put_snapshot"]:
                await insert(statement, rows[:-1])
                raise StoreUnavailable("killed", cause="killed")
            await insert(statement, rows)

        monkeypatch.setattr(store._link, "insert", killed)
        await _follow(store, range(100, 150))
        known = await _state(store)
        assert len(await _rows_of_snapshots(options)) > len(before)
    found, replayed = await _fresh_state(options)
    assert found == known == await _state_of_all_records(options)
    assert replayed == 50


def _of_another_journal(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """As if the journal's end, of which the snapshot is, had been lost and written anew."""
    return (*row[:3], row[3] + " lost", *row[4:])


def _of_a_longer_journal(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """As if the journal's end, of which the snapshot is, had been lost."""
    return (*row[:2], row[2] + 1_000_000, *row[3:])


def _damaged(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:6], row[6][:-8] + "AAAAAAA=")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("change", [_of_another_journal, _of_a_longer_journal, _damaged])
async def test_a_snapshot_that_is_not_of_this_journal_claims_nothing(
    questdb: QuestDb, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> None:
    options = questdb.options()
    async with open_questdb(options) as store:
        await _follow(store, range(FEW + 5))
        await store.forget(BTC, minutes(0, 10))
        rows = await _rows_of_snapshots(options)
        await store._link.execute(f"TRUNCATE TABLE {options.tables.snapshots}")
        await store._link.insert(store._sql["put_snapshot"], [change(row) for row in rows])
    found, replayed = await _fresh_state(options)
    assert replayed == FEW + 7
    assert found[1] == [(slot, 1.0) for slot in range(10, FEW + 5)]


@pytest.mark.usefixtures("often")
async def test_servers_that_write_and_take_snapshots_at_once_end_with_the_same_history(questdb: QuestDb) -> None:
    """Answers in any order, forgetting and looking, by two servers; a third starts in the middle and at the end."""
    options = questdb.options()
    chance = random.Random(7)

    async def work(store: QuestDbStore, number: int) -> None:
        start = chance.randrange(200)
        if number % 17 == 0:
            await store.forget(BTC, minutes(start, start + 5))
        else:
            await _put(store, start, start + chance.randrange(1, 30), float(number), chance.randrange(100))
        await store.coverage(BTC, minutes(0, 1000))

    async with open_questdb(options) as one, open_questdb(options) as other:
        for store in (one, other):
            await store.open_series(BTC, ORIGIN, Layout(1000))
        for _ in range(4):
            await asyncio.gather(*(work((one, other)[number % 2], number) for number in range(1, 60)))
            states = [await _state(one), await _state(other), (await _fresh_state(options))[0]]
            assert states[0] == states[1] == states[2] == await _state_of_all_records(options)
    _, replayed = await _fresh_state(options)
    assert len({row[1] for row in await _rows_of_snapshots(options)}) >= 4
    assert replayed < 100
