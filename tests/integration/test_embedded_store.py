"""The embedded store and what surrounds it: other processes, crashes, full disks, damaged bytes, cancels."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from historyd.coverage import Fact
from historyd.errors import CorruptPage, StoreUnavailable
from historyd.model.page import Layout
from historyd.model.time_range import TimeRange, from_datetime
from historyd.model.venue import Origin
from historyd.stores import sqlite as storage
from historyd.stores.embedded import EmbeddedStore, open_embedded
from tests.rows import BTC, MINUTE, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 1000
WRITER = """
import asyncio, sys
from pathlib import Path
from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores.embedded import open_embedded
from tests.rows import BTC, answer, bars, minutes

async def write(path, first):
    async with open_embedded(path) as store:
        await store.open_series(BTC, Origin("h"), Layout(1000))
        for page in range(first, first + 10_000):
            window = minutes(page * 1000, page * 1000 + 1000)
            rows = bars(range(page * 1000, page * 1000 + 1000), float(page))
            await store.commit(BTC, answer(window, rows), rows)
            print(page, flush=True)

asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def _fill(store: EmbeddedStore, pages: int, first: int = 0) -> None:
    await store.open_series(BTC, Origin("h"), Layout(PAGE))
    for page in range(first, first + pages):
        await _commit(store, page)


async def _commit(store: EmbeddedStore, page: int, asked_at: int = 10**15) -> None:
    window = minutes(page * PAGE, page * PAGE + PAGE)
    rows = bars(range(page * PAGE, page * PAGE + PAGE), float(page))
    await store.commit(BTC, answer(window, rows, asked_at), rows)


async def _row_count(store: EmbeddedStore, window: TimeRange) -> int:
    return len(await slots(store.read(BTC, window)))


def _covered_rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as con:
        return int(con.execute("SELECT ifnull(sum(row_count), 0) FROM fact").fetchone()[0])


@contextlib.contextmanager
def _writing_process(path: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_kill_at_any_moment_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """Killed 12 times amid commits: every commit that returned is there, whole, and the file is sound."""
    path = tmp_path / "store.db"
    dice = random.Random(7)
    pages = 0
    for _ in range(12):
        with _writing_process(path, pages) as process:
            assert process.stdout is not None
            for _ in range(dice.randint(1, 30)):
                last = int(process.stdout.readline())
            process.kill()
            for line in process.stdout.read().splitlines(keepends=True):
                last = int(line) if line.endswith("\n") else last
        with contextlib.closing(sqlite3.connect(path)) as con:
            assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        pages = asyncio.run(_checked_pages(path))
        assert pages >= last + 1


async def _checked_pages(path: Path) -> int:
    """Pages that are covered, each of whose rows was compared."""
    async with open_embedded(path) as store:
        (span,) = await store.coverage(BTC, minutes(0, 10**7))
        assert span.range.start == 0
        pages, rest = divmod(span.range.end, PAGE * MINUTE)
        assert rest == 0
        got = await slots(store.read(BTC, minutes(0, 10**7)))
        assert got == [(slot, float(slot // PAGE)) for slot in range(pages * PAGE)]
        return pages


async def test_another_process_reads_while_this_one_writes(tmp_path: Path) -> None:
    """Its reads are whole pages, as many as it was told are covered, and they grow."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await _fill(store, 2)
    with _writing_process(path, 2) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        async with open_embedded(path, readonly=True) as reader:
            seen = []
            for _ in range(10):
                await asyncio.to_thread(process.stdout.readline)
                covered = (await reader.coverage(BTC, minutes(0, 10**7)))[0]
                rows = await _row_count(reader, covered.range)
                assert rows == covered.row_count
                seen.append(rows)
            assert seen == sorted(seen)
            assert seen[-1] > seen[0] >= 3 * PAGE


async def test_a_second_writer_is_refused_by_name_and_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with _writing_process(path, 0) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        with pytest.raises(StoreUnavailable, match=r"mine\.db is in use by another writer"):
            async with open_embedded(path):
                pass
        assert await asyncio.to_thread(process.stdout.readline)
    async with open_embedded(path) as store, contextlib.AsyncExitStack() as stack:
        assert await _row_count(store, minutes(0, 10**7)) >= 2 * PAGE
        with pytest.raises(StoreUnavailable, match="in use"):
            await stack.enter_async_context(open_embedded(path))


async def test_the_writer_may_change_once_the_first_has_gone(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        uuid = store.uuid
        await _fill(store, 1)
    async with open_embedded(tmp_path / "store.db") as store:
        assert store.uuid == uuid
        await _fill(store, 1, first=1)
        assert await _row_count(store, minutes(0, 2 * PAGE)) == 2 * PAGE


async def test_a_closed_store_is_one_file_that_can_be_moved(tmp_path: Path) -> None:
    """Nothing is left in the write-ahead log; the lock's file is empty and holds nobody."""
    async with open_embedded(tmp_path / "store.db") as store:
        await _fill(store, 3)
        await _row_count(store, minutes(0, PAGE))
        uuid = store.uuid
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store.db", "store.db.lock"]
    (tmp_path / "store.db").rename(tmp_path / "moved.db")
    async with open_embedded(tmp_path / "moved.db") as store:
        assert store.uuid == uuid
        assert await _row_count(store, minutes(0, 3 * PAGE)) == 3 * PAGE


async def test_a_reader_may_be_the_first_to_come_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with _writing_process(path, 0) as process:
        assert process.stdout is not None
        for _ in range(3):
            await asyncio.to_thread(process.stdout.readline)
        process.kill()
        process.wait()
    async with open_embedded(path, readonly=True) as reader:
        (span,) = await reader.coverage(BTC, minutes(0, 10**7))
        assert await _row_count(reader, span.range) == span.row_count >= 3 * PAGE


async def test_a_readonly_store_refuses_to_write(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await _fill(store, 1)
    async with open_embedded(tmp_path / "store.db", readonly=True) as reader:
        with pytest.raises(StoreUnavailable, match="reading only"):
            await _commit(reader, 1)
        with pytest.raises(StoreUnavailable, match="reading only"):
            await reader.forget(BTC)
        assert await reader.layout(BTC) == Layout(PAGE)
        assert await reader.quarantined_count(BTC, minutes(0, PAGE)) == 0
        assert await _row_count(reader, minutes(0, PAGE)) == PAGE


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


async def test_a_file_of_version_1_is_migrated_with_all_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 is made up here: the next real one finds the way paved."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await _fill(store, 3)
    second = "ALTER TABLE series ADD COLUMN note TEXT; -- a comment; with a semicolon\nUPDATE series SET note = 'a;b';"
    steps = [*storage.MIGRATIONS, second]
    storage.prepare(path, steps)
    with contextlib.closing(sqlite3.connect(path)) as con:
        assert con.execute("PRAGMA user_version").fetchone() == (2,)
        assert con.execute("SELECT note FROM series").fetchall() == [("a;b",)]
    monkeypatch.setattr(storage, "MIGRATIONS", steps)
    async with open_embedded(path, readonly=True) as reader:
        assert await _row_count(reader, minutes(0, 3 * PAGE)) == 3 * PAGE


async def test_a_migration_that_fails_leaves_the_old_version_whole(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await _fill(store, 1)
    with pytest.raises(StoreUnavailable):
        storage.prepare(path, [*storage.MIGRATIONS, "DROP TABLE block; DROP TABLE nothing_of_that_name;"])
    async with open_embedded(path) as store:
        assert await _row_count(store, minutes(0, PAGE)) == PAGE


async def _limit_pages(store: EmbeddedStore, more: int | None) -> None:
    """Lets the file grow by so many pages at most; None: without bound."""
    assert store._writing is not None

    def limit(con: sqlite3.Connection) -> None:
        (size,) = con.execute("PRAGMA page_count").fetchone()
        con.execute(f"PRAGMA max_page_count = {2**31 if more is None else size + more}").fetchall()

    await store._writing.lane.run(limit)


async def test_a_full_disk_is_told_loses_nothing_and_can_be_got_over(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await _fill(store, 20)
        await _limit_pages(store, 3)
        with pytest.raises(StoreUnavailable) as full:
            await _fill(store, 20, first=20)
        assert full.value.metadata == {"cause": "disk full"}
        (span,) = await store.coverage(BTC, minutes(0, 10**6))
        assert span.row_count == _covered_rows(tmp_path / "store.db")
        assert await _row_count(store, span.range) == span.row_count >= 20 * PAGE
        await _limit_pages(store, None)
        await _fill(store, 20, first=20)
        assert await _row_count(store, minutes(0, 40 * PAGE)) == 40 * PAGE


async def test_a_file_that_must_not_grow_is_told_of_by_the_operating_system_too(tmp_path: Path) -> None:
    """The write-ahead log cannot be written: the commit fails, the process lives, readers are served."""
    path = tmp_path / "store.db"
    script = WRITER.replace(
        "async def write",
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\nasync def write",
    )
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, str(path), "0"], capture_output=True, text=True, check=False
    )
    assert "StoreUnavailable: the store cannot be used" in run.stderr
    done = len(run.stdout.splitlines())
    assert done > 0
    assert await _checked_pages(path) == done


def _damage(path: Path, number: int) -> None:
    """Flips one bit of a block, as a failing disk would."""
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as con,
        con.blobopen("block", "content", number) as blob,
    ):
        blob[len(blob) // 2] ^= 1


async def _damaged_store(path: Path) -> list[tuple[int, int]]:
    """A store of 50 pages whose second block is damaged; first and last bar of each block."""
    async with open_embedded(path) as store:
        await _fill(store, 50)
    with contextlib.closing(sqlite3.connect(path)) as con:
        blocks = con.execute("SELECT id, first_ts, last_ts FROM block ORDER BY first_ts").fetchall()
    _damage(path, blocks[1][0])
    return [(first // MINUTE, last // MINUTE) for _, first, last in blocks]


async def test_a_damaged_block_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    blocks = await _damaged_store(path)
    first, last = blocks[1]
    async with open_embedded(path) as store:
        got: list[float] = []
        with pytest.raises(CorruptPage) as corrupt:
            await _read_into(got, store)
        assert got == list(range(first))
        assert corrupt.value.metadata["series"] == str(BTC)
        assert await _row_count(store, minutes(last + 1, 50 * PAGE)) == 50 * PAGE - last - 1
        assert await store.coverage(BTC, minutes(0, 50 * PAGE))
        with pytest.raises(CorruptPage):
            await slots(store.read_last(BTC, last, (last + 1) * MINUTE))


async def _read_into(got: list[float], store: EmbeddedStore) -> None:
    async for batch in store.read(BTC, minutes(0, 50 * PAGE)):
        got += batch.column("open").to_pylist()


async def test_forgetting_the_damaged_range_mends_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _damaged_store(path)
    async with open_embedded(path) as store:
        with pytest.raises(CorruptPage) as corrupt:
            await _row_count(store, minutes(0, 50 * PAGE))
        start, end = corrupt.value.metadata["page"].split("/")
        window = TimeRange(*(from_datetime(datetime.fromisoformat(text)) for text in (start, end)))
        await store.forget(BTC, window)
        rest = 50 * PAGE - window.width // MINUTE
        assert await _row_count(store, minutes(0, 50 * PAGE)) == rest
        assert sum(span.row_count for span in await store.coverage(BTC, minutes(0, 50 * PAGE))) == rest
        for page in range(50):
            await _commit(store, page, asked_at=10**15 + 1)
        assert await _row_count(store, minutes(0, 50 * PAGE)) == 50 * PAGE


async def test_a_damaged_neighbour_does_not_keep_new_rows_out(tmp_path: Path) -> None:
    """Joining blocks would have to read it; it is left as it is."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await _fill(store, 10)
    with contextlib.closing(sqlite3.connect(path)) as con:
        (number,) = con.execute("SELECT id FROM block ORDER BY first_ts LIMIT 1 OFFSET 4").fetchone()
    _damage(path, number)
    async with open_embedded(path) as store:
        await _fill(store, 20, first=10)
        assert await _row_count(store, minutes(5 * PAGE, 30 * PAGE)) == 25 * PAGE


async def test_a_commit_that_has_begun_is_carried_through_for_a_caller_that_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await _fill(store, 1)
        assert store._writing is not None
        begun, go_on = threading.Event(), threading.Event()
        commit = store._writing.ledger.commit

        def held(*arguments: Any) -> None:
            begun.set()
            assert go_on.wait(30)
            commit(*arguments)

        monkeypatch.setattr(store._writing.ledger, "commit", held)
        task = asyncio.create_task(_commit(store, 1))
        await asyncio.to_thread(begun.wait, 30)
        queued = asyncio.create_task(_commit(store, 2))
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
        await _fill(store, 40)
        readings = [asyncio.create_task(_row_count(store, minutes(0, 40 * PAGE))) for _ in range(20)]
        await asyncio.sleep(0)
        for reading in readings:
            reading.cancel()
        assert all(isinstance(end, asyncio.CancelledError) for end in await _ends(readings))
        assert await _row_count(store, minutes(0, 40 * PAGE)) == 40 * PAGE


async def _ends(tasks: list[asyncio.Task[int]]) -> list[int | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_stalled_reader_does_not_keep_the_log_from_being_emptied(tmp_path: Path) -> None:
    """It has read one batch; 200 pages later the write-ahead log is as short as without it."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await _fill(store, 60)
        stalled = store.read(BTC, minutes(0, 60 * PAGE))
        first = await anext(stalled)
        for round_ in range(200):
            await _commit(store, round_ % 60, asked_at=10**15 + 1 + round_)
        assert (await store.usage()).log_bytes < 16 << 20
        rest = [batch.num_rows async for batch in stalled]
        assert first.num_rows + sum(rest) == 60 * PAGE


async def test_a_log_that_a_foreign_reader_let_grow_is_cut_when_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr(storage, "_LOG_BYTES", 6 << 20)
    async with open_embedded(path) as store:
        await _fill(store, 1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM fact").fetchone()
            monkeypatch.setattr(storage, "_LOG_WAIT_MS", 1)
            await _fill(store, 120, first=1)
            assert (await store.usage()).log_bytes > 8 << 20
        await _fill(store, 40, first=121)
        assert (await store.usage()).log_bytes <= 6 << 20
        assert await _row_count(store, minutes(0, 161 * PAGE)) == 161 * PAGE


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
        await _fill(store, 200)
        await store.forget(BTC)
    assert path.stat().st_size < 200_000


async def test_after_closing_the_store_says_that_it_is_closed(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await _fill(store, 1)
    with pytest.raises(StoreUnavailable, match="closed"):
        await _commit(store, 1)
    with pytest.raises(StoreUnavailable, match="closed"):
        await _row_count(store, minutes(0, PAGE))


async def test_errors_of_the_driver_do_not_get_out(tmp_path: Path) -> None:
    """The message has no path and none of SQLite's words; the cause is chained for the log."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await _fill(store, 1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as con:
            con.execute("DROP TABLE quarantine")
        with pytest.raises(StoreUnavailable) as failed:
            await store.commit(BTC, Fact(minutes(0, PAGE), 2 * 10**15, 0), bars([]))
        assert str(failed.value) == "the store cannot be used: failed"
        assert isinstance(failed.value.__cause__, sqlite3.Error)
        assert await _row_count(store, minutes(0, PAGE)) == PAGE
