"""What only a store in another process can suffer: a clear StoreUnavailable each, no hang, nothing false covered."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import pytest

from historyd.errors import StoreUnavailable
from historyd.model.page import Layout
from historyd.model.rows import Quarantined
from historyd.model.series import Kind
from historyd.model.venue import Origin
from historyd.stores import questdb_link
from historyd.stores.questdb import open_questdb
from historyd.stores.questdb_reader import WINDOW_ROWS
from tests.questdb_server import ROUNDS, running_questdb
from tests.rows import BTC, MINUTE, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from historyd.stores.questdb import QuestDbStore
    from historyd.stores.questdb_options import QuestDbOptions
    from tests.questdb_server import QuestDb

ORIGIN = Origin("api.binance.com")
PAGE = 100


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuestDb]:
    """A QuestDB of this module's own, that may be killed."""
    with running_questdb(tmp_path_factory.mktemp("victim")) as server:
        yield server


@pytest.fixture
async def store(questdb: QuestDb) -> AsyncIterator[QuestDbStore]:
    async with open_questdb(questdb.options()) as opened:
        await opened.open_series(BTC, ORIGIN, Layout(PAGE))
        yield opened


async def _sql(options: QuestDbOptions, statement: str) -> None:
    connection = await asyncpg.connect(options.dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _put(store: QuestDbStore, page: int) -> None:
    window = minutes(page * PAGE, (page + 1) * PAGE)
    rows = bars(range(page * PAGE, (page + 1) * PAGE), float(page))
    await store.commit(BTC, answer(window, rows), rows)


async def _refused(options: QuestDbOptions) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as refused:
        async with open_questdb(options):
            pass
    assert "s3cret" not in str(refused.value)
    return refused.value


async def test_a_questdb_that_is_down_is_named_at_the_start(questdb: QuestDb) -> None:
    options = replace(questdb.options(), dsn="postgresql://history:s3cret@127.0.0.1:1/qdb")
    error = await _refused(options)
    assert str(error) == "QuestDB at 127.0.0.1:1 cannot be used: connection refused"


async def test_a_wrong_password_is_told_at_the_start(questdb: QuestDb) -> None:
    error = await _refused(questdb.options(login=("history", "wrong")))
    assert error.metadata["cause"] == "login refused"


PRICES = ", ".join(f"{name} DOUBLE" for name in ("high", "low", "close", "volume"))


@pytest.mark.parametrize(
    ("columns", "keys", "difference"),
    [
        ("node_id SYMBOL, open DOUBLE", "", "column answer is missing, wanted LONG"),
        (
            f"series SYMBOL, open FLOAT, {PRICES}, answer LONG",
            "DEDUP UPSERT KEYS(ts, series, answer)",
            "column open is FLOAT, wanted DOUBLE",
        ),
        (
            f"series SYMBOL, open DOUBLE, {PRICES}, answer LONG",
            "DEDUP UPSERT KEYS(ts, series)",
            "its rows must be unique by answer, series, ts",
        ),
    ],
)
async def test_a_table_of_another_shape_is_refused_by_its_difference(
    questdb: QuestDb, columns: str, keys: str, difference: str
) -> None:
    options = questdb.options()
    await _sql(
        options,
        f"CREATE TABLE {options.tables.bars} (ts TIMESTAMP, {columns}) TIMESTAMP(ts) PARTITION BY DAY WAL {keys}",
    )
    error = await _refused(options)
    assert str(error) == f"table {options.tables.bars} is not one of historyd: {difference}"


async def test_a_table_that_was_left_half_made_is_named_with_what_to_do(questdb: QuestDb) -> None:
    """As QuestDB leaves it when it is killed while it makes a table without WAL."""
    options = questdb.options()
    (questdb.folder / "data" / "db" / options.tables.journal).mkdir()
    error = await _refused(options)
    assert error.metadata["cause"] == "half-made table"
    assert f"stop QuestDB and remove the folder {options.tables.journal}" in str(error)


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[QuestDb]:
    """It was killed at its first export, which left a folder where it wanted a table; see make_export_log."""
    (tmp_path / "data" / "db" / "sys.copy_export_log").mkdir(parents=True)
    with running_questdb(tmp_path) as server:
        yield server


@pytest.mark.slow
async def test_bulk_reads_work_in_a_questdb_that_was_killed_at_its_first_one(broken: QuestDb) -> None:
    options = broken.options()
    assert await _export(options) == 400, "it refuses every export, restarts included"
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(5000))
        rows = bars(range(5000))
        await store.commit(BTC, answer(minutes(0, 5000), rows), rows)
        assert len(await slots(store.read(BTC, minutes(0, 5000)))) == 5000
        await asyncio.to_thread(broken.kill)
        await asyncio.to_thread(broken.start)
        assert len(await slots(store.read(BTC, minutes(0, 5000)))) == 5000
    assert await _export(options) == 200


async def _export(options: QuestDbOptions) -> int:
    """The status of a small export that QuestDB is asked for by hand."""
    login = {"Authorization": aiohttp.encode_basic_auth(*options.http_login)}
    async with (
        aiohttp.ClientSession(headers=login) as http,
        http.get(f"{options.http_url}/exp", params={"query": "SELECT 1", "fmt": "parquet"}) as reply,
    ):
        return reply.status


async def test_a_suspended_table_takes_nothing_and_covers_nothing(questdb: QuestDb) -> None:
    """QuestDB acknowledges what it is given for such a table, and never shows it."""
    options = questdb.options()
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        await _put(store, 0)
        await _sql(options, f"ALTER TABLE {options.tables.bars} SUSPEND WAL")
        for _ in range(3):
            with pytest.raises(StoreUnavailable) as refused:
                await _put(store, 1)
            assert refused.value.metadata["cause"] == "table suspended"
        ((written, _, _),) = await store._link.fetch(store._sql["progress"], options.tables.bars)
        assert written == 2, "it keeps what it is given: only the first time anything is"
        (span,) = await store.coverage(BTC, minutes(0, 1000))
        assert (span.range, span.row_count) == (minutes(0, PAGE), PAGE)
        await _sql(options, f"ALTER TABLE {options.tables.bars} RESUME WAL")
        await _put(store, 1)
        assert len(await slots(store.read(BTC, minutes(0, 1000)))) == 2 * PAGE


async def test_bulk_reads_that_are_away_are_told_and_small_ones_go_on(questdb: QuestDb) -> None:
    options = questdb.options()
    async with open_questdb(replace(options, http="http://127.0.0.1:1")) as store:
        await store.open_series(BTC, ORIGIN, Layout(5000))
        rows = bars(range(5000))
        await store.commit(BTC, answer(minutes(0, 5000), rows), rows)
        with pytest.raises(StoreUnavailable) as refused:
            await slots(store.read(BTC, minutes(0, 5000)))
        assert refused.value.metadata["cause"] == "bulk reads"
        assert len(await slots(store.read_last(BTC, 120, 5000 * MINUTE))) == 120
    wrong = options.http_url.replace("http://", "http://history:wrong@")
    async with open_questdb(replace(options, http=wrong)) as store:
        with pytest.raises(StoreUnavailable) as refused:
            await slots(store.read(BTC, minutes(0, 5000)))
        assert refused.value.metadata["cause"] == "login refused"


async def test_a_questdb_that_answers_no_more_is_given_up(victim: QuestDb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questdb_link, "_ANSWER_S", 5.0)
    async with open_questdb(victim.options()) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        victim.freeze()
        try:
            with pytest.raises(StoreUnavailable) as refused:
                await store.coverage(BTC, minutes(0, 10))
        finally:
            victim.thaw()
        assert refused.value.metadata["cause"] == "too slow"
        await _put(store, 0)


async def test_a_store_is_closed_though_questdb_answers_no_more(victim: QuestDb) -> None:
    async with asyncio.timeout(20), open_questdb(victim.options()) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        await _put(store, 0)
        victim.freeze()
    victim.thaw()


async def test_rows_without_their_fact_count_for_nobody(store: QuestDbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies between rows and fact leaves rows; the answer that is asked for again replaces them."""

    async def away(_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as dying:
        dying.setattr(store._journal, "append", away)
        rows = bars(range(3000), 7.0)
        with pytest.raises(StoreUnavailable):
            await store.commit(BTC, answer(minutes(0, 3000), rows), rows, [Quarantined(5, "bad", "[]")])
    assert await store.coverage(BTC, minutes(0, 3000)) == []
    assert await slots(store.read(BTC, minutes(0, 3000))) == []
    rows = bars(range(0, 3000, 3), 1.0)
    await store.commit(BTC, answer(minutes(0, 3000), rows), rows)
    assert await slots(store.read(BTC, minutes(0, 3000))) == [(slot, 1.0) for slot in range(0, 3000, 3)]
    assert await slots(store.read_last(BTC, 2, 3000 * MINUTE)) == [(2994, 1.0), (2997, 1.0)]
    assert await store.quarantined_count(BTC, minutes(0, 3000)) == 0


async def test_a_commit_whose_caller_leaves_is_carried_through(
    questdb: QuestDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is closed waits for what was begun."""
    options = questdb.options()
    begun = asyncio.Event()
    async with open_questdb(options) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        insert = store._link.insert

        async def telling(statement: str, rows: list[tuple[object, ...]]) -> None:
            begun.set()
            await insert(statement, rows)

        monkeypatch.setattr(store._link, "insert", telling)
        leaving = asyncio.create_task(_put(store, 0))
        await begun.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    async with open_questdb(options) as store:
        (span,) = await store.coverage(BTC, minutes(0, 1000))
        assert (span.range, span.row_count) == (minutes(0, PAGE), PAGE)


@pytest.mark.slow
async def test_a_reader_that_pauses_holds_nothing_that_could_be_cut(
    victim: QuestDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QuestDB ends every connection, by ending itself, while a reader has taken one batch of many and stands still."""
    monkeypatch.setitem(WINDOW_ROWS, Kind.OHLCV, 2000)
    ahead = asyncio.Semaphore(0)
    async with open_questdb(victim.options()) as store:
        await store.open_series(BTC, ORIGIN, Layout(2000))
        for start in range(0, 12_000, 2000):
            rows = bars(range(start, start + 2000))
            await store.commit(BTC, answer(minutes(start, start + 2000), rows), rows)
        export = store._reader._export

        async def counted(query: str) -> bytes:
            content = await export(query)
            ahead.release()
            return content

        monkeypatch.setattr(store._reader, "_export", counted)
        reading = store.read(BTC, minutes(0, 12_000))
        taken = (await anext(reading)).num_rows
        for _ in range(3):
            await ahead.acquire()
        await asyncio.to_thread(victim.stop)
        await asyncio.to_thread(victim.start)
        assert ahead.locked()
        assert taken + len(await slots(reading)) == 12_000


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_killed_questdb_keeps_what_was_covered_and_covers_nothing_else(victim: QuestDb, seed: int) -> None:
    """Killed at a random moment of a backfill with readers; the store goes on by itself once it is back."""
    kill_at = random.Random(seed).randrange(1, 60)
    covered: set[int] = set()
    enough = asyncio.Event()

    async def write(store: QuestDbStore, pages: range) -> None:
        for page in pages:
            await _put(store, page)
            covered.add(page)
            if len(covered) >= kill_at:
                enough.set()

    async def read(store: QuestDbStore) -> None:
        while True:
            before = set(covered)
            got = await slots(store.read(BTC, minutes(0, 40_000)))
            seen = {slot // PAGE for slot, _ in got}
            assert seen >= before
            assert got == _rows_of(seen)

    async with open_questdb(victim.options()) as store:
        await store.open_series(BTC, ORIGIN, Layout(PAGE))
        writing = [asyncio.create_task(write(store, range(part, 400, 4))) for part in range(4)]
        reading = [asyncio.create_task(read(store)) for _ in range(2)]
        await enough.wait()
        await asyncio.to_thread(victim.kill)
        ended = await asyncio.gather(*writing, *reading, return_exceptions=True)
        assert [type(error) for error in ended] == [StoreUnavailable] * 6, ended
        with pytest.raises(StoreUnavailable):
            await store.coverage(BTC, minutes(0, 10))
        await asyncio.to_thread(victim.start)
        spans = await store.coverage(BTC, minutes(0, 40_000))
        rows = await slots(store.read(BTC, minutes(0, 40_000)))
        bounds = [(span.range.start // (PAGE * MINUTE), span.range.end // (PAGE * MINUTE)) for span in spans]
        found = {page for first, end in bounds for page in range(first, end)}
        assert found >= covered
        assert rows == _rows_of(found)
        assert sum(span.row_count for span in spans) == len(rows)
        await write(store, range(80))
        (span,) = await store.coverage(BTC, minutes(0, 80 * PAGE))
        assert span.row_count == 80 * PAGE


def _rows_of(pages: set[int]) -> list[tuple[int, float]]:
    return [(slot, float(page)) for page in sorted(pages) for slot in range(page * PAGE, (page + 1) * PAGE)]
