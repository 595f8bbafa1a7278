"""`historyd copy`: a user who began with a file grows into QuestDB without asking the exchange again, and back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import pytest

from historyd.errors import OriginMismatch, StoreUnavailable
from historyd.model.page import Layout
from historyd.model.rows import TRADES, Quarantined
from historyd.model.time_range import EARLIEST, LATEST, MICROS_PER_MS, TimeRange
from historyd.model.venue import Origin
from historyd.stores.copying import copy
from historyd.stores.embedded import open_embedded
from historyd.stores.questdb import open_questdb
from tests.rows import BTC, BTC_TRADES, all_rows, answer, bars, minutes, slots, trades

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.model.series import SeriesId
    from historyd.stores.base import Store
    from historyd.stores.questdb_options import QuestDbOptions
    from tests.questdb_server import QuestDb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ORIGIN = Origin("testnet.binance.vision", sandbox=True)
ALWAYS = TimeRange(EARLIEST, LATEST)


def silent(series: SeriesId, rows: int) -> None:
    """Nobody listens."""


async def furnish(store: Store) -> None:
    """Bars with gaps, a refresh, rows set aside, confirmed-empty time; trades of which many share an instant."""
    await store.open_series(BTC, ORIGIN, Layout(500, 60_000_000))
    for start in range(0, 40_000, 5000):
        rows = bars(range(start, start + 5000))
        await store.commit(BTC, answer(minutes(start, start + 5000), rows, 10**15 + start), rows)
    rows = bars(range(100, 120, 3), 2.0)
    bad = [Quarantined(101 * 60_000_000, "bad", "[]"), Quarantined(None, "worse", "[1]")]
    await store.commit(BTC, answer(minutes(100, 200), rows, 2 * 10**15), rows, bad)
    await store.commit(BTC, answer(minutes(50_000, 60_000), bars([])), bars([]))
    await store.open_series(BTC_TRADES, ORIGIN, Layout(1000))
    deals = trades([(number // 30, number % 30) for number in range(30_000)])
    await store.commit(BTC_TRADES, answer(TimeRange(0, 2000 * MICROS_PER_MS), deals), deals)


async def inside(store: Store) -> list[object]:
    """All that can be told of a store but its name and bytes."""
    told: list[object] = [await store.origin("binance")]
    for series in (BTC, BTC_TRADES):
        told += [await store.layout(series), await store.coverage(series, ALWAYS)]
        # Where a row without a time of its own is counted depends on how its range was asked for, and copied.
        told += [sorted(repr(replace(row, at=None)) for row in await store.quarantined(series, ALWAYS))]
    told += [await slots(store.read(BTC, ALWAYS)), await all_rows(store.read(BTC_TRADES, ALWAYS), TRADES)]
    return told


async def test_a_copy_to_questdb_and_back_is_the_same_history(questdb: QuestDb, tmp_path: Path) -> None:
    async with (
        open_embedded(tmp_path / "old.db") as old,
        open_questdb(questdb.options()) as between,
        open_embedded(tmp_path / "new.db") as new,
    ):
        await furnish(old)
        assert await copy(old, between, silent) == 40_000 - 100 + 7 + 30_000
        assert await inside(between) == await inside(old)
        assert await copy(between, new, silent) == 40_000 - 100 + 7 + 30_000
        assert await inside(new) == await inside(old)
        assert await copy(old, between, silent) == 0, "all is there"


async def test_a_copy_within_questdb_leaves_behind_what_counts_no_more(questdb: QuestDb) -> None:
    """QuestDB deletes nothing: who wants the room back copies to tables of another prefix and drops the old ones."""
    options, compact = questdb.options(), questdb.options()
    async with open_questdb(options) as old, open_questdb(compact) as new:
        await furnish(old)
        for asked_at, price in ((3 * 10**15, 3.0), (4 * 10**15, 4.0)):
            rows = bars(range(5000, 6000), price)
            await old.commit(BTC, answer(minutes(5000, 6000), rows, asked_at), rows)
        await old.forget(BTC, minutes(20_000, 30_000))
        kept = 40_000 - 100 + 7 - 10_000
        assert await _rows_on_disk(options) == 40_000 + 7 + 2000
        assert await copy(old, new, silent) == kept + 30_000
        assert await _rows_on_disk(compact) == kept
        assert await inside(new) == await inside(old)


async def _rows_on_disk(options: QuestDbOptions) -> int:
    connection = await asyncpg.connect(options.dsn)
    try:
        return int(await connection.fetchval(f"SELECT count() FROM {options.tables.bars}"))
    finally:
        await connection.close()


async def test_a_copy_that_was_broken_off_goes_on(
    questdb: QuestDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_embedded(tmp_path / "old.db") as old, open_questdb(questdb.options()) as new:
        await furnish(old)
        commit, left = new.commit, iter(range(2))

        async def break_off(*given: object) -> None:
            if next(left, None) is None:
                raise StoreUnavailable("away")
            await commit(*given)  # type: ignore[arg-type]

        with monkeypatch.context() as broken:
            broken.setattr(new, "commit", break_off)
            with pytest.raises(StoreUnavailable):
                await copy(old, new, silent)
        kept = sum(span.row_count for span in await new.coverage(BTC, ALWAYS))
        assert 0 < kept < 39_907
        assert await copy(old, new, silent) == 40_000 - 100 + 7 + 30_000 - kept
        assert await inside(new) == await inside(old)


async def test_histories_of_two_hosts_are_not_mixed(questdb: QuestDb, tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "old.db") as old, open_questdb(questdb.options()) as new:
        await furnish(old)
        await new.open_series(BTC, Origin("api.binance.com"), Layout(500))
        with pytest.raises(OriginMismatch):
            await copy(old, new, silent)


async def test_the_command_copies_from_a_file_to_a_configured_store(questdb: QuestDb, tmp_path: Path) -> None:
    async with open_embedded(tmp_path / "old.db") as old:
        await furnish(old)
    options = questdb.options()
    prefix = options.tables.bars.removesuffix("_ohlcv")
    store = {"questdb": {"dsn": options.dsn, "http": options.http, "table_prefix": prefix}}
    (tmp_path / "new.yaml").write_text(json.dumps({"store": store}))
    command = [sys.executable, "-m", "historyd", "copy", "--from", "old.db", "--to", "new.yaml"]
    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{BTC}: 39,907 rows", f"{BTC_TRADES}: 30,000 rows", "copied 69,907 rows"]
