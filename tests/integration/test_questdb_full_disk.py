"""QuestDB on a disk that is full: a clear status, what is covered is served, and all goes on when there is room."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from historyd.errors import StoreUnavailable
from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores.questdb import open_questdb
from tests.questdb_server import running_questdb
from tests.rows import BTC, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from historyd.stores.questdb import QuestDbStore
    from tests.questdb_server import QuestDb

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.timeout(300)]

ORIGIN = Origin("api.binance.com")
PAGE = 1000
ALL = minutes(0, 10**6)
ROOMY = 512 * 1024 * 1024
SMALL_STEPS = {
    "QDB_CAIRO_WRITER_DATA_INDEX_VALUE_APPEND_PAGE_SIZE": "64k",
    "QDB_CAIRO_WRITER_DATA_INDEX_KEY_APPEND_PAGE_SIZE": "64k",
    "QDB_CAIRO_SYSTEM_WRITER_DATA_APPEND_PAGE_SIZE": "64k",
}


class Disk:
    """A file system in memory whose size can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: int) -> None:
        subprocess.run(self._remount(size), check=True)

    def fill(self, leave: int) -> None:
        """Makes it so small that `leave` bytes are left; what is written meanwhile makes it measure again."""
        for _ in range(100):
            room = os.statvfs(self.folder)
            size = (room.f_blocks - room.f_bfree) * room.f_frsize + leave
            if subprocess.run(self._remount(size), check=False, capture_output=True).returncode == 0:
                return
        raise AssertionError("more is written all the time")

    def _remount(self, size: int) -> list[str]:
        return ["mount", "-o", f"remount,size={size}", str(self.folder)]


@contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(folder)], check=True)
    try:
        yield Disk(folder)
    finally:
        # Lazily: a QuestDB that was just killed may still hold files.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with mounted(tmp_path / "disk") as small:
        yield small


@pytest.fixture
def questdb(disk: Disk) -> Iterator[QuestDb]:
    """Its tables lie on the small disk."""
    with running_questdb(disk.folder / "questdb", **SMALL_STEPS) as server:
        yield server


async def _put(store: QuestDbStore, page: int) -> None:
    window = minutes(page * PAGE, (page + 1) * PAGE)
    rows = bars(range(page * PAGE, (page + 1) * PAGE), float(page))
    await store.commit(BTC, answer(window, rows), rows)


async def _put_until_refused(store: QuestDbStore, first: int) -> tuple[int, StoreUnavailable]:
    """How many pages there are then, and how the next one was refused."""
    for page in range(first, 400):
        try:
            await _put(store, page)
        except StoreUnavailable as error:
            return page, error
    raise AssertionError("the disk is never full")


def _rows_of(pages: int) -> list[tuple[int, float]]:
    return [(slot, float(slot // PAGE)) for slot in range(pages * PAGE)]


@pytest.mark.parametrize("leave", [0, 1_000_000, 6_000_000])
async def test_a_full_disk_is_told_and_mended_by_room(disk: Disk, questdb: QuestDb, leave: int) -> None:
    """Which of QuestDB's files finds no room depends on how much there is; at times it ends itself."""
    options = questdb.options()
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        for page in range(5):
            await _put(store, page)
        disk.fill(leave)
        pages, refused = await _put_until_refused(store, 5)
        assert refused.metadata["cause"] in {"table suspended", "disk full", "connection lost"}
        lives = questdb.is_running()
        if lives:
            assert await slots(store.read(BTC, ALL)) == _rows_of(pages)
            (span,) = await store.coverage(BTC, ALL)
            assert span.row_count == pages * PAGE
        disk.resize(ROOMY)
        if not lives:
            await asyncio.to_thread(questdb.start)
        connection = await asyncpg.connect(options.dsn)
        try:
            await connection.execute(f"ALTER TABLE {options.tables.bars} RESUME WAL")
        finally:
            await connection.close()
        for page in (pages, pages + 1):
            await _put(store, page)
        assert await slots(store.read(BTC, ALL)) == _rows_of(pages + 2)


async def test_a_store_that_is_made_on_a_full_disk_says_so_at_the_start(disk: Disk, questdb: QuestDb) -> None:
    options = questdb.options()
    disk.fill(400_000)
    with pytest.raises(StoreUnavailable) as refused:
        async with open_questdb(options):
            pass
    assert str(refused.value).endswith(": disk full")
    disk.resize(ROOMY)
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        await _put(store, 0)
        assert await slots(store.read(BTC, ALL)) == _rows_of(1)
