"""The embedded store on a full disk, with damaged bytes, with a driver that fails."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from historyd.coverage import Fact
from historyd.errors import CorruptPage, StoreUnavailable
from historyd.model.time_range import TimeRange, from_datetime
from historyd.stores.embedded import EmbeddedStore, open_embedded
from tests.embedded import PAGE, ROOT, WRITER, checked_pages, commit_page, fill, row_count
from tests.packing import KeepingPacker, rows_of
from tests.rows import BTC, MINUTE, answer, bars, minutes, slots

if TYPE_CHECKING:
    from pathlib import Path


def _covered_rows(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as con:
        return int(con.execute("SELECT ifnull(sum(row_count), 0) FROM fact").fetchone()[0])


async def _limit_pages(store: EmbeddedStore, more: int | None) -> None:
    """Lets the file grow by so many pages at most; None: without bound."""
    assert store._writing is not None

    def limit(con: sqlite3.Connection) -> None:
        (size,) = con.execute("PRAGMA page_count").fetchone()
        con.execute(f"PRAGMA max_page_count = {2**31 if more is None else size + more}").fetchall()

    await store._writing.lane.run(limit)


async def test_a_full_disk_is_told_loses_nothing_and_can_be_got_over(tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "store.db") as store:
        await fill(store, 20)
        await _limit_pages(store, 3)
        with pytest.raises(StoreUnavailable) as full:
            await fill(store, 20, first=20)
        assert full.value.metadata == {"cause": "disk full"}
        (span,) = await store.coverage(BTC, minutes(0, 10**6))
        assert span.row_count == _covered_rows(tmp_path / "store.db")
        assert await row_count(store, span.range) == span.row_count >= 20 * PAGE
        await _limit_pages(store, None)
        await fill(store, 20, first=20)
        assert await row_count(store, minutes(0, 40 * PAGE)) == 40 * PAGE


async def test_a_file_that_must_not_grow_is_told_of_by_the_operating_system_too(tmp_path: Path) -> None:
    """The write-ahead log cannot be written: the commit fails, the process lives, readers are served."""
    path = tmp_path / "store.db"
    script = WRITER.replace(
        "async def write",
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\nasync def write",
    )
    command = [sys.executable, "-c", script, str(path), "0"]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "StoreUnavailable: the store cannot be used" in run.stderr
    done = len(run.stdout.splitlines())
    assert done > 0
    assert await checked_pages(path) == done


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
        await fill(store, 50)
    with contextlib.closing(sqlite3.connect(path)) as con:
        blocks = con.execute("SELECT id, first_ts, last_ts FROM block ORDER BY first_ts").fetchall()
    _damage(path, blocks[1][0])
    return [(first // MINUTE, last // MINUTE) for _, first, last in blocks]


@pytest.mark.parametrize("packed", [False, True])
async def test_a_damaged_block_is_named_and_the_others_are_served(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "store.db"
    blocks = await _damaged_store(path)
    first, last = blocks[1]
    async with open_embedded(path) as store:
        for _ in range(3 if packed else 1):
            got: list[float] = []
            with pytest.raises(CorruptPage) as corrupt:
                await _read_into(got, store, packed=packed)
            assert got == list(range(first))
        assert corrupt.value.metadata["series"] == str(BTC)
        assert await row_count(store, minutes(last + 1, 50 * PAGE)) == 50 * PAGE - last - 1
        assert await store.coverage(BTC, minutes(0, 50 * PAGE))
        with pytest.raises(CorruptPage):
            await slots(store.read_last(BTC, last, (last + 1) * MINUTE))


@pytest.mark.parametrize("packed", [False, True])
async def test_a_damaged_small_block_does_not_hide_those_before_it(tmp_path: Path, packed: bool) -> None:
    """Small blocks are read several at a time; what is whole of them comes out first."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 10)
    _damage(path, 5)
    async with open_embedded(path) as store:
        got: list[float] = []
        with pytest.raises(CorruptPage) as corrupt:
            await _read_into(got, store, packed=packed)
        assert got == list(range(4 * PAGE))
        assert corrupt.value.metadata["page"] == str(minutes(4 * PAGE, 5 * PAGE))


async def _read_into(got: list[float], store: EmbeddedStore, *, packed: bool) -> None:
    window = minutes(0, 50 * PAGE)
    if packed:
        async for found in store.read_packed(BTC, window, None, KeepingPacker()):
            got += rows_of(found).column("open").to_pylist()
        return
    async for batch in store.read(BTC, window):
        got += batch.column("open").to_pylist()


async def test_forgetting_the_damaged_range_mends_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _damaged_store(path)
    async with open_embedded(path) as store:
        with pytest.raises(CorruptPage) as corrupt:
            await row_count(store, minutes(0, 50 * PAGE))
        start, end = corrupt.value.metadata["page"].split("/")
        window = TimeRange(*(from_datetime(datetime.fromisoformat(text)) for text in (start, end)))
        await store.forget(BTC, window)
        rest = 50 * PAGE - window.width // MINUTE
        assert await row_count(store, minutes(0, 50 * PAGE)) == rest
        assert sum(span.row_count for span in await store.coverage(BTC, minutes(0, 50 * PAGE))) == rest
        for page in range(50):
            await commit_page(store, page, asked_at=10**15 + 1)
        assert await row_count(store, minutes(0, 50 * PAGE)) == 50 * PAGE


async def test_a_damaged_neighbour_does_not_keep_new_rows_out(tmp_path: Path) -> None:
    """Joining blocks would have to read it; it is left as it is."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 10)
    with contextlib.closing(sqlite3.connect(path)) as con:
        (number,) = con.execute("SELECT id FROM block ORDER BY first_ts LIMIT 1 OFFSET 4").fetchone()
    _damage(path, number)
    async with open_embedded(path) as store:
        await fill(store, 20, first=10)
        assert await row_count(store, minutes(5 * PAGE, 30 * PAGE)) == 25 * PAGE


async def test_a_newer_answer_replaces_damaged_rows_and_says_nothing_of_them(tmp_path: Path) -> None:
    """What cannot be read cannot be compared; the rows beside it are."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 10)
    with contextlib.closing(sqlite3.connect(path)) as con:
        number, first = con.execute("SELECT id, first_ts FROM block ORDER BY first_ts LIMIT 1 OFFSET 4").fetchone()
    _damage(path, number)
    damaged = first // MINUTE // PAGE
    async with open_embedded(path) as store:
        for page in range(10):
            window = minutes(page * PAGE, (page + 1) * PAGE)
            rows = bars(range(page * PAGE, (page + 1) * PAGE), -1.0)
            await store.commit(BTC, answer(window, rows, 10**15 + 1), rows)
        revised = await store.revised(BTC, minutes(0, 10 * PAGE))
        assert await row_count(store, minutes(0, 10 * PAGE)) == 10 * PAGE
    assert sorted({at // MINUTE // PAGE for at in revised}) == [page for page in range(10) if page != damaged]


async def test_errors_of_the_driver_do_not_get_out(tmp_path: Path) -> None:
    """The message has no path and none of SQLite's words; the cause is chained for the log."""
    path = tmp_path / "store.db"
    async with open_embedded(path) as store:
        await fill(store, 1)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as con:
            con.execute("DROP TABLE quarantine")
        with pytest.raises(StoreUnavailable) as failed:
            await store.commit(BTC, Fact(minutes(0, PAGE), 2 * 10**15, 0), bars([]))
        assert str(failed.value) == "the store cannot be used: failed"
        assert isinstance(failed.value.__cause__, sqlite3.Error)
        assert await row_count(store, minutes(0, PAGE)) == PAGE
