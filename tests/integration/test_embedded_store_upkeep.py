"""What the embedded store keeps small: blocks few, the log short, memory bounded, nothing left by who went away."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores import sqlite as storage
from historyd.stores.block_table import BlockTable
from historyd.stores.embedded import open_embedded
from historyd.stores.embedded_reader import STEPS_AHEAD
from historyd.stores.lane import Lane
from historyd.stores.packs import Packs
from tests.embedded import PAGE, commit_page, fill, row_count
from tests.packing import KeepingPacker, Pack, rows_of
from tests.rows import BTC, answer, bars, minutes, slots

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.stores.block_table import Block, KnownSeries


def _block_sizes(path: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as con:
        return [rows for (rows,) in con.execute("SELECT row_count FROM block ORDER BY first_ts")]


async def test_pages_that_come_in_order_leave_nothing_but_full_blocks_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 100)
    sizes = _block_sizes(path)
    assert sizes[:6] == [16_384] * 6
    assert all(size <= PAGE for size in sizes[6:])


async def test_pages_grow_into_full_blocks_in_whatever_order_they_come(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    pages = list(range(100))
    random.Random(5).shuffle(pages)
    async with open_embedded(path) as store:
        await store.open_series(BTC, Origin("h"), Layout(PAGE))
        for page in pages:
            await commit_page(store, page)
        assert [slot for slot, _ in await slots(store.read(BTC, minutes(0, 100 * PAGE)))] == list(range(100 * PAGE))
    sizes = _block_sizes(path)
    assert max(sizes) == 16_384
    assert sum(sizes) == 100 * PAGE
    assert sum(size == 16_384 for size in sizes) >= 4


async def test_single_bars_grow_into_blocks_too(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await store.open_series(BTC, Origin("h"), Layout(PAGE))
        for slot in range(600):
            await store.commit(BTC, answer(minutes(slot, slot + 1), bars([slot])), bars([slot]))
    assert _block_sizes(path) == [256, 256, 88]


async def test_a_gap_between_keeps_blocks_apart(tmp_path: Path) -> None:
    """Else filling the gap later would cut a full block at every page."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 10)
        await fill(store, 10, first=20)
    assert _block_sizes(path) == [PAGE] * 20


async def test_a_commit_that_has_begun_is_carried_through_for_a_caller_that_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await fill(store, 1)
        assert store._writing is not None
        begun, go_on = threading.Event(), threading.Event()
        commit = store._writing.ledger.commit

        def held(*arguments: Any) -> None:
            begun.set()
            assert go_on.wait(30)
            commit(*arguments)

        monkeypatch.setattr(store._writing.ledger, "commit", held)
        task = asyncio.create_task(commit_page(store, 1))
        await asyncio.to_thread(begun.wait, 30)
        queued = asyncio.create_task(commit_page(store, 2))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        (span,) = await store.coverage(BTC, minutes(0, 10 * PAGE))
        assert (span.range, span.row_count) == (minutes(0, 2 * PAGE), 2 * PAGE)


async def test_cancelled_readers_leave_the_store_usable(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await fill(store, 40)
        readings = [asyncio.create_task(row_count(store, minutes(0, 40 * PAGE))) for _ in range(20)]
        await asyncio.sleep(0)
        for reading in readings:
            reading.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await _ends(readings))
        assert await row_count(store, minutes(0, 40 * PAGE)) == 40 * PAGE


async def _ends(tasks: list[asyncio.Task[int]]) -> list[int | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_stalled_reader_does_not_keep_the_log_from_being_emptied(tmp_path: Path) -> None:
    """It has read one batch; 200 pages later the write-ahead log is as short as without it."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 60)
        stalled = store.read(BTC, minutes(0, 60 * PAGE))
        first = await anext(stalled)
        for round_ in range(200):
            await commit_page(store, round_ % 60, asked_at=10**15 + 1 + round_)
        assert (await store.usage()).log_bytes < 16 << 20
        rest = [batch.num_rows async for batch in stalled]
        assert first.num_rows + sum(rest) == 60 * PAGE


async def test_a_stalled_reader_is_one_turn_ahead_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So what a stream keeps in memory does not grow with the range or with the time that nobody takes it."""
    loaded = []
    load = BlockTable.load

    def counted(table: BlockTable, series: KnownSeries, block: Block) -> Any:
        loaded.append(block)
        return load(table, series, block)

    async with open_embedded(tmp_path / "store.db") as store:
        await fill(store, 100)
        monkeypatch.setattr(BlockTable, "load", counted)
        stalled = store.read(BTC, minutes(0, 98 * PAGE))
        await anext(stalled)
        for _ in range(20):
            await store.list_series("*", "", 1)
        # The first step comes alone, each turn brings some.
        assert len(loaded) <= 1 + STEPS_AHEAD
        await anext(stalled)
        await stalled.aclose()
        assert len(loaded) <= 1 + 2 * STEPS_AHEAD


async def test_a_window_read_again_and_again_takes_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was written since: where its rows are is known, and its edges are in memory."""
    window = minutes(10, 50_000)
    rows, asked = bars(range(60_000)), []
    submit = Lane.submit

    def counted(lane: Lane, work: Any) -> Any:
        asked.append(work)
        return submit(lane, work)

    async with open_embedded(tmp_path / "store.db") as store:
        await store.open_series(BTC, Origin("planted"), Layout(1_000))
        await store.commit(BTC, answer(minutes(0, 60_000), rows), rows)
        monkeypatch.setattr(Lane, "submit", counted)
        for last in (False, False, False, True):
            asked.clear()
            found = [one async for one in store.read_packed(BTC, window, None, KeepingPacker())]
            assert pa.Table.from_batches(map(rows_of, found)) == pa.Table.from_batches([rows.slice(10, 49_990)])
            assert bool(asked) != last
        await commit_page(store, 40, asked_at=10**15 + 1)
        found = [one async for one in store.read_packed(BTC, window, None, KeepingPacker())]
        assert pa.Table.from_batches(map(rows_of, found))["close"].to_pylist()[39_990:40_990] == [40.0] * PAGE


async def test_a_store_opened_for_reading_sees_what_is_written_between_two_reads(tmp_path: Path) -> None:
    path, window = tmp_path / "store.db", minutes(0, PAGE)
    async with open_embedded(path) as store:
        await fill(store, 1)
        async with open_embedded(path, readonly=True) as reading:
            for answer_ in range(4):
                await commit_page(store, 0, asked_at=10**15 + 1 + answer_)
                found = [rows_of(one) async for one in reading.read_packed(BTC, window, None, KeepingPacker())]
                assert sum(rows.num_rows for rows in found) == PAGE
                await store.forget(BTC, window)
                assert not [one async for one in reading.read_packed(BTC, window, None, KeepingPacker())]


async def test_blocks_whose_packs_were_driven_out_are_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for two."""
    rows = bars(range(70_000))
    monkeypatch.setattr("historyd.stores.embedded_reader.Packs", lambda: Packs(5 * rows.slice(0, 16_384).nbytes // 2))
    async with open_embedded(tmp_path / "store.db") as store:
        await store.open_series(BTC, Origin("planted"), Layout(1_000))
        await store.commit(BTC, answer(minutes(0, 70_000), rows), rows)

        async def packed(first: int, times: int) -> list[bool]:
            window = minutes(first, first + 32_768)
            for _ in range(times):
                found = [one async for one in store.read_packed(BTC, window, None, KeepingPacker())]
            return [isinstance(one, Pack) for one in found]

        for first in (0, 32_768, 0):
            assert await packed(first, 1) == [False, False]
            assert await packed(first, 3) == [True, True]


@pytest.mark.parametrize("reads_before", [2, 3])
async def test_packs_driven_out_while_a_reader_stalls_are_read_as_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_before: int
) -> None:
    """A step, or an outline, only names the blocks whose packs were kept, so nobody holds them for the reader."""
    packs = Packs()
    monkeypatch.setattr("historyd.stores.embedded_reader.Packs", lambda: packs)
    async with open_embedded(tmp_path / "store.db") as store:
        rows = bars(range(100_000))
        await store.open_series(BTC, Origin("planted"), Layout(1_000))
        await store.commit(BTC, answer(minutes(0, 100_000), rows), rows)
        for _ in range(reads_before):
            async for _found in store.read_packed(BTC, minutes(0, 100_000), None, KeepingPacker()):
                pass
        stalled = store.read_packed(BTC, minutes(0, 100_000), None, KeepingPacker())
        found = [await anext(stalled)]
        assert isinstance(found[0], Pack)
        monkeypatch.setattr(packs, "get", lambda _name: None)
        found += [one async for one in stalled]
        assert not any(isinstance(one, Pack) for one in found[1:])
        assert pa.Table.from_batches(map(rows_of, found)) == pa.Table.from_batches([rows])
        found = [one async for one in store.read_packed(BTC, minutes(0, 100_000), None, KeepingPacker())]
        assert pa.Table.from_batches(map(rows_of, found)) == pa.Table.from_batches([rows])


async def test_a_log_that_a_foreign_reader_let_grow_is_cut_when_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr(storage, "_LOG_BYTES", 6 << 20)
    async with open_embedded(path) as store:
        await fill(store, 1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM fact").fetchone()
            monkeypatch.setattr(storage, "_LOG_WAIT_MS", 1)
            await fill(store, 120, first=1)
            assert (await store.usage()).log_bytes > 8 << 20
        await fill(store, 40, first=121)
        assert (await store.usage()).log_bytes <= 6 << 20
        assert await row_count(store, minutes(0, 161 * PAGE)) == 161 * PAGE


def test_the_log_is_emptied_past_its_bound_unless_a_reader_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own checkpoints are off here: what empties the log is ours."""
    path, log = tmp_path / "store.db", tmp_path / "store.db-wal"
    monkeypatch.setattr(storage, "_LOG_BYTES", 50_000)
    monkeypatch.setattr(storage, "_LOG_WAIT_MS", 1)
    storage.prepare(path)
    bound = storage.LogBound(path)
    writer = storage.connect(path, readonly=False)
    reader = storage.connect(path, readonly=True)
    with contextlib.closing(writer), contextlib.closing(reader):
        writer.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
        sizes = []
        for number in range(6):
            if number == 1:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM meta").fetchone()
            if number == 3:
                reader.execute("COMMIT")
            value = {"name": str(number), "value": "x" * 60_000}
            writer.execute("INSERT INTO meta (name, value) VALUES (:name, :value)", value)
            bound.check(writer)
            sizes.append(log.stat().st_size)
        assert sizes[0] == 0
        assert sizes[2] > sizes[1] > 60_000
        assert sizes[3:] == [0, 0, 0]


async def test_forgetting_gives_the_space_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 200)
        await store.forget(BTC)
    assert path.stat().st_size < 200_000
