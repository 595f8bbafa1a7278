"""A QuestDB that is away, slow or refuses, seen from a client: a clear status each, no hang, and it ends by itself."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import markethistory.aio
from historyd.demo.candles import RandomWalk
from historyd.demo.exchange import serve_exchange
from historyd.stores import questdb_link
from markethistory.errors import Unavailable
from markethistory.retry import RetryPolicy
from markethistory.values import EnsureProgress
from tests.e2e.serving import environment, serve_process
from tests.e2e.whole import binance, in_questdb, rows_of, whole
from tests.questdb_server import ROUNDS, running_questdb
from tests.source_lab import floats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from markethistory.aio import AsyncClient
    from markethistory.values import EnsurePlan
    from tests.questdb_server import QuestDb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERIES = "ohlcv:binance:BTC/USDT:1m"
PAGES, PAGE_BARS = 72, 60
START = datetime(2024, 1, 1, tzinfo=UTC)  # on the grid of hourly pages
END = START + timedelta(minutes=PAGES * PAGE_BARS)
START_MS = int(START.timestamp() * 1000)
WANTED = floats(RandomWalk().bars("BTCUSDT", "1m", START_MS, START_MS + (PAGES * PAGE_BARS - 1) * 60_000, 10_000))
PATIENT = RetryPolicy(attempts=100, most_s=2.0)
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuestDb]:
    """A QuestDB of this module's own, that may be killed."""
    with running_questdb(tmp_path_factory.mktemp("victim")) as server:
        yield server


async def _sql(questdb: QuestDb, statement: str) -> None:
    connection = await asyncpg.connect(questdb.dsn())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _read_until(client: AsyncClient, done: asyncio.Event) -> list[Unavailable]:
    """Reads again and again what is covered; every answer is exact, or the store is said to be away."""
    told: list[Unavailable] = []
    while not done.is_set():
        try:
            got = rows_of(await client.read(SERIES, START, END, ensure=False))
        except Unavailable as error:
            told.append(error)
            await asyncio.sleep(0.05)  # its own time to try again would be longer
        else:
            seen = set(got)
            assert got == [row for row in WANTED if row in seen]
    return told


@pytest.mark.filterwarnings("ignore::markethistory.errors.IncompleteHistoryWarning")  # it is, for a while
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_questdb_killed_under_a_server_is_waited_for_by_its_clients(
    victim: QuestDb, tmp_path: Path, seed: int
) -> None:
    """One client backfills and resumes, another reads and is told; the server is never started again."""
    kill_at = random.Random(seed).randrange(1, PAGES)
    reached, done = asyncio.Event(), asyncio.Event()

    def note(event: EnsurePlan | EnsureProgress) -> None:
        if isinstance(event, EnsureProgress) and event.pages_done >= kill_at:
            reached.set()

    async with serve_exchange() as exchange:
        config = {"store": in_questdb(victim), "exchanges": binance(exchange.url, window_size=PAGE_BARS)}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        async with (
            serve_process(tmp_path, "--config", "config.yaml") as server,
            markethistory.aio.connect(server.address, retry=PATIENT) as asking,
            markethistory.aio.connect(server.address, retry=ONCE) as reading,
            asyncio.TaskGroup() as tasks,
        ):
            backfill = tasks.create_task(asking.ensure(SERIES, START, END, on_progress=note))
            readers = tasks.create_task(_read_until(reading, done))
            await reached.wait()
            await asyncio.to_thread(victim.kill)
            await asyncio.to_thread(victim.start)
            result = await backfill
            done.set()
            assert result.uncovered == ()
            for error in await readers:
                assert (error.reason, error.retry_after_s) == ("STORE_UNAVAILABLE", 1.0)
            assert rows_of(await reading.read(SERIES, START, END, ensure=False, require_complete=True)) == WANTED
            assert server.process.returncode is None


@asynccontextmanager
async def _gone(questdb: QuestDb, _: str) -> AsyncIterator[None]:
    await asyncio.to_thread(questdb.kill)
    yield
    await asyncio.to_thread(questdb.start)


@asynccontextmanager
async def _frozen(questdb: QuestDb, _: str) -> AsyncIterator[None]:
    questdb.freeze()
    yield
    questdb.thaw()


@asynccontextmanager
async def _suspended(questdb: QuestDb, bars: str) -> AsyncIterator[None]:
    await _sql(questdb, f"ALTER TABLE {bars} SUSPEND WAL")
    yield
    await _sql(questdb, f"ALTER TABLE {bars} RESUME WAL")


@pytest.mark.parametrize(
    ("trouble", "causes"),
    [
        (_gone, {"connection refused", "connection lost"}),
        (_frozen, {"too slow"}),
        (_suspended, {"table suspended"}),
    ],
    ids=["gone", "slow", "suspended"],
)
async def test_what_is_wrong_with_questdb_is_told_and_ends_with_it(
    victim: QuestDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any, causes: set[str]
) -> None:
    monkeypatch.setattr(questdb_link, "_ANSWER_S", 5.0)
    store = in_questdb(victim)
    async with (
        whole(tmp_path, store=store, window_size=PAGE_BARS) as it,
        markethistory.aio.connect(it.address, retry=ONCE) as client,
    ):
        half = START + timedelta(minutes=PAGE_BARS * PAGES // 2)
        await client.ensure(SERIES, START, half)
        async with trouble(victim, f"{store['questdb']['table_prefix']}_ohlcv"):
            with pytest.raises(Unavailable) as told:
                await client.ensure(SERIES, half, END)
            assert told.value.reason == "STORE_UNAVAILABLE"
            assert told.value.metadata["cause"] in causes
            assert told.value.retry_after_s is not None
        assert rows_of(await client.read(SERIES, START, END, require_complete=True)) == WANTED


async def test_bulk_reads_that_are_closed_are_told_and_small_reads_go_on(questdb: QuestDb, tmp_path: Path) -> None:
    store = in_questdb(questdb)
    store["questdb"]["http"] = "http://127.0.0.1:1"
    async with (
        whole(tmp_path, store=store) as it,
        markethistory.aio.connect(it.address, retry=ONCE) as client,
    ):
        await client.ensure(SERIES, START, END)
        with pytest.raises(Unavailable) as told:
            await client.read(SERIES, START, END)
        assert (told.value.reason, told.value.metadata["cause"]) == ("STORE_UNAVAILABLE", "bulk reads")
        assert rows_of(await client.last(SERIES, 120, end=END)) == WANTED[-120:]


async def test_a_server_without_its_questdb_says_so_and_ends(questdb: QuestDb, tmp_path: Path) -> None:
    store = in_questdb(questdb)
    store["questdb"]["dsn"] = "postgresql://history:s3cret@127.0.0.1:1/qdb"
    (tmp_path / "config.yaml").write_text(json.dumps({"store": store}))
    command = [sys.executable, "-m", "historyd", "serve", "--listen", "127.0.0.1:0", "--config", "config.yaml"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "QuestDB at 127.0.0.1:1 cannot be used: connection refused" in done.stderr
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr
