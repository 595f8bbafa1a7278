"""The embedded store's file among others: crashes, other processes, moves, versions."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest

from historyd.errors import StoreUnavailable
from historyd.model.page import Layout
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.venue import Origin
from historyd.stores import sqlite as storage
from historyd.stores.block_table import BlockTable
from historyd.stores.embedded import open_embedded
from tests.embedded import PAGE, checked_pages, commit_page, fill, row_count, writing_process
from tests.rows import BTC, answer, minutes, trades

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_kill_at_any_moment_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """Killed 8 times amid commits: every commit that returned is there, whole, and the file is sound."""
    path = tmp_path / "store.db"
    dice = random.Random(7)
    pages = 0
    for _ in range(8):
        with writing_process(path, pages) as process:
            assert process.stdout is not None
            for _ in range(dice.randint(1, 30)):
                last = int(process.stdout.readline())
            process.kill()
            for line in process.stdout.read().splitlines(keepends=True):
                last = int(line) if line.endswith("\n") else last
        with contextlib.closing(sqlite3.connect(path)) as con:
            assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        pages = asyncio.run(checked_pages(path))
        assert pages >= last + 1


async def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    """Its reads are whole pages, as many as it was told are covered, and they grow."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 2)
    with writing_process(path, 2) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        async with open_embedded(path, readonly=True) as reader:
            seen = []
            for _ in range(10):
                await asyncio.to_thread(process.stdout.readline)
                covered = (await reader.coverage(BTC, minutes(0, 10**7)))[0]
                rows = await row_count(reader, covered.range)
                assert rows == covered.row_count
                seen.append(rows)
            assert seen == sorted(seen)
            assert seen[-1] > seen[0] >= 3 * PAGE


async def test_a_second_writer_is_refused_by_name_and_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with writing_process(path, 0) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        with pytest.raises(StoreUnavailable, match=r"mine\.db is in use by another writer"):
            async with open_embedded(path):
                pass
        assert await asyncio.to_thread(process.stdout.readline)
    async with open_embedded(path) as store, contextlib.AsyncExitStack() as stack:
        assert await row_count(store, minutes(0, 10**7)) >= 2 * PAGE
        with pytest.raises(StoreUnavailable, match="in use"):
            await stack.enter_async_context(open_embedded(path))


async def test_the_writer_may_change_once_the_first_has_gone(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        uuid = store.uuid
        await fill(store, 1)
    async with open_embedded(tmp_path / "store.db") as store:
        assert store.uuid == uuid
        await fill(store, 1, first=1)
        assert await row_count(store, minutes(0, 2 * PAGE)) == 2 * PAGE


def test_every_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    """What a kill cannot show: 2 is FULL, so that a power cut loses no commit that has returned."""
    storage.prepare(tmp_path / "store.db")
    with contextlib.closing(storage.connect(tmp_path / "store.db", readonly=False)) as con:
        assert con.execute("PRAGMA synchronous").fetchone() == (2,)
        assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_closed_store_is_one_file_that_can_be_moved(tmp_path: Path) -> None:
    """Nothing is left in the write-ahead log; the lock's file is empty and holds nobody."""
    path, moved = tmp_path / "store.db", tmp_path / "moved.db"
    uuid = asyncio.run(_uuid_of_three_pages(path))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["store.db", "store.db.lock"]
    path.rename(moved)
    assert asyncio.run(checked_pages(moved)) == 3
    assert asyncio.run(_uuid_of_three_pages(moved)) == uuid


async def _uuid_of_three_pages(path: Path) -> str:
    async with open_embedded(path) as store:
        await fill(store, 3)
        await row_count(store, minutes(0, PAGE))
        return store.uuid


async def test_a_reader_may_be_the_first_to_come_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with writing_process(path, 0) as process:
        assert process.stdout is not None
        for _ in range(3):
            await asyncio.to_thread(process.stdout.readline)
        process.kill()
        process.wait()
    async with open_embedded(path, readonly=True) as reader:
        (span,) = await reader.coverage(BTC, minutes(0, 10**7))
        assert await row_count(reader, span.range) == span.row_count >= 3 * PAGE


async def test_a_readonly_store_refuses_to_write(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await fill(store, 1)
    async with open_embedded(tmp_path / "store.db", readonly=True) as reader:
        with pytest.raises(StoreUnavailable, match="reading only"):
            await commit_page(reader, 1)
        with pytest.raises(StoreUnavailable, match="reading only"):
            await reader.forget(BTC)
        assert await reader.layout(BTC) == Layout(PAGE)
        assert await reader.quarantined_count(BTC, minutes(0, PAGE)) == 0
        assert await row_count(reader, minutes(0, PAGE)) == PAGE


async def test_a_readonly_store_is_not_made_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"none\.db cannot be used as a store: cannot be opened"):
        async with open_embedded(tmp_path / "none.db", readonly=True):
            pass
    assert not (tmp_path / "none.db").exists()


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"store\.db cannot be opened for writing"):
        async with open_embedded(tmp_path / "nowhere" / "store.db"):
            pass


@pytest.mark.parametrize("readonly", [False, True])
async def test_a_newer_file_is_refused(tmp_path: Path, readonly: bool) -> None:
    path = tmp_path / "store.db"
    async with open_embedded(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match=r"store\.db .*version 99"):
        async with open_embedded(path, readonly=readonly):
            pass


@pytest.mark.parametrize("content", ["text", "database"])
async def test_a_file_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "letters.db"
    if content == "text":
        path.write_bytes(b"Dear diary, " * 1000)
    else:
        with contextlib.closing(sqlite3.connect(path)) as con:
            con.execute("CREATE TABLE letter (text)")
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"letters\.db"):
        async with open_embedded(path):
            pass
    assert path.read_bytes() == before


async def test_a_file_of_an_older_version_is_migrated_with_all_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last version is made up here: the next real one finds the way paved."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 3)
    newest = "ALTER TABLE series ADD COLUMN note TEXT; -- a comment; with a semicolon\nUPDATE series SET note = 'a;b';"
    steps = [*storage.MIGRATIONS, newest]
    storage.prepare(path, steps)
    with contextlib.closing(sqlite3.connect(path)) as con:
        assert con.execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert con.execute("SELECT note FROM series").fetchall() == [("a;b",)]
    monkeypatch.setattr(storage, "MIGRATIONS", steps)
    async with open_embedded(path, readonly=True) as reader:
        assert await row_count(reader, minutes(0, 3 * PAGE)) == 3 * PAGE


async def test_a_migration_that_fails_leaves_the_old_version_whole(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 1)
    with pytest.raises(StoreUnavailable):
        storage.prepare(path, [*storage.MIGRATIONS, "DROP TABLE block; DROP TABLE nothing_of_that_name;"])
    async with open_embedded(path) as store:
        assert await row_count(store, minutes(0, PAGE)) == PAGE


async def test_after_closing_the_store_says_that_it_is_closed(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await fill(store, 1)
    with pytest.raises(StoreUnavailable, match="closed"):
        await commit_page(store, 1)
    with pytest.raises(StoreUnavailable, match="closed"):
        await row_count(store, minutes(0, PAGE))


async def test_a_part_is_counted_though_its_block_is_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that is cut has to be counted from its blocks: all that is read for that is of one moment."""
    series = SeriesId.parse("trades:binance:BTC/USDT")
    window, rows = TimeRange(0, 200_000), trades((ms, 0) for ms in range(200))
    found, replaced = threading.Event(), threading.Event()
    plain_count = BlockTable.count_before

    def held(self: BlockTable, *found_block: Any) -> int:
        if threading.current_thread().name.startswith("store-read"):
            found.set()
            assert replaced.wait(30)
        return plain_count(self, *found_block)

    async with open_embedded(tmp_path / "store.db") as store:
        await store.open_series(series, Origin("h"), Layout(3_600_000))
        await store.commit(series, answer(window, rows), rows)
        monkeypatch.setattr(BlockTable, "count_before", held)
        counting = asyncio.create_task(store.coverage(series, TimeRange(500, 100_000)))
        assert await asyncio.to_thread(found.wait, 30)
        await store.commit(series, answer(window, trades([]), 10**15 + 1), trades([]))
        replaced.set()
        [span] = await counting
    assert span.row_count == 99
