"""An alert of each kind, from what an exchange or a store does to a receiver that speaks Slack's webhook format."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from historyd.model.time_range import TimeRange
from markethistory.errors import MarketHistoryError
from tests import venue_faults as fault
from tests.e2e.whole import whole
from tests.slack import ADDRESS, Slack, serve_slack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import web
    from aiohttp.typedefs import Handler

    from tests.questdb_server import QuestDb
    from tests.venue_faults import Fault

SERIES = "ohlcv:binance:BTC/USDT:1m"
START = datetime(2024, 1, 1, tzinfo=UTC)
HALF = timedelta(hours=12)
PAGE = TimeRange(1_704_067_200_000_000, 1_704_110_400_000_000)
SHAPE: dict[str, Any] = {"window_size": 720, "max_retries": 2, "rate_limiter": {"penalty_backoff_ms": 1}}
"""Pages of half a day, and patience for one repetition."""


@pytest.fixture
async def slack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Slack]:
    async with serve_slack() as running:
        running.lead_to(monkeypatch)
        yield running


def alerts(**options: Any) -> dict[str, Any]:
    return {"to": [ADDRESS], "name": "test", "settle_s": 0, **options}


async def opened(it: Any) -> None:
    """Opens the series, so that the faults that follow hit the pages."""
    earlier = datetime(2023, 12, 1, tzinfo=UTC)
    await it.client.ensure(SERIES, earlier, earlier + HALF)


async def page(it: Any, number: int = 0) -> None:
    """Has one page fetched, whatever comes of it."""
    try:
        await it.client.ensure(SERIES, START + number * HALF, START + (number + 1) * HALF)
    except MarketHistoryError as error:
        it.error = error


async def test_a_backfill_that_fails_and_one_that_works_again_are_told(tmp_path: Path, slack: Slack) -> None:
    async with whole(tmp_path, alerts=alerts(), **SHAPE) as it:
        await opened(it)
        it.faults.next(fault.status(500), times=2)
        await page(it)
        post = await slack.posts.get()
        assert post["attachments"][0]["title"] == "historyd on test"
        told = post["attachments"][0]["text"]
        assert told == f"{SERIES}: {PAGE}: binance answers with an error (HTTP 500)"
        await page(it)
        assert (await slack.text()).startswith(f"{SERIES} works again after ")


def dated(seconds: float) -> Fault:
    """The good answer from an exchange whose clock is so much ahead."""

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        good = await handler(request)
        then = datetime.now(UTC) + timedelta(seconds=seconds)
        good.headers["Date"] = then.strftime("%a, %d %b %Y %H:%M:%S GMT")
        return good

    return answer


def spoil(rows: list[list[Any]]) -> list[list[Any]]:
    """Eight rows without sense among 720."""
    return [[*row[:5], "-1"] if place < 8 else row for place, row in enumerate(rows)]


BY_FAULT = {
    "ban": (fault.status(418, retry_after="120"), "binance has banned us until "),
    "long pause": (fault.status(429, retry_after="3600"), "binance has banned us until "),
    "403": (fault.status(403), "binance refuses us (HTTP 403): its firewall does not let this host or key in"),
    "451": (fault.status(451), "binance refuses us (HTTP 451): it does not serve this place for legal reasons"),
    "clock": (dated(3600), "binance's clock is 3600 s ahead of this host's: check the host's clock"),
    "quarantine": (fault.spoilt(spoil), f"{SERIES}: 8 of 720 rows of {PAGE} were set aside"),
}


@pytest.mark.parametrize(("wrong", "words"), BY_FAULT.values(), ids=BY_FAULT)
async def test_what_a_venue_does_is_told(tmp_path: Path, slack: Slack, wrong: Fault, words: str) -> None:
    async with whole(tmp_path, alerts=alerts(), **SHAPE) as it:
        await opened(it)
        it.faults.next(wrong)
        await page(it)
        told = await slack.text()
    assert told[: len(words)] in (words, words.replace("3600", "3599"))


async def test_a_backfill_that_stalls_is_told(tmp_path: Path, slack: Slack) -> None:
    async with whole(tmp_path, alerts=alerts(stalled_after_s=1.5), **SHAPE) as it:
        await opened(it)
        gate = it.faults.gate()
        waiting = asyncio.create_task(page(it))
        told = await slack.text()
        assert told.startswith("binance: no page done for ")
        assert told.endswith(", 1 under way")
        gate.open()
        await waiting
        assert (await slack.text()).startswith("binance: pages are done again after ")


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_table_that_is_suspended_is_told(tmp_path: Path, slack: Slack, questdb: QuestDb) -> None:
    options = questdb.options()
    place = {"dsn": options.dsn, "http": options.http_url, "table_prefix": options.tables.bars.removesuffix("_ohlcv")}
    async with whole(tmp_path, alerts=alerts(), store={"questdb": place}, **SHAPE) as it:
        await opened(it)
        connection = await asyncpg.connect(questdb.dsn())
        try:
            await connection.execute(f"ALTER TABLE {options.tables.bars} SUSPEND WAL")
            await page(it)
            told = await slack.text()
            await connection.execute(f"ALTER TABLE {options.tables.bars} RESUME WAL")
        finally:
            await connection.close()
        assert told.endswith("(table suspended)")
        await page(it)
        assert (await slack.text()).startswith("the store (table suspended) works again after ")


async def test_many_failures_of_one_series_are_one_alert(tmp_path: Path, slack: Slack) -> None:
    async with whole(tmp_path, alerts=alerts(), **SHAPE) as it:
        await opened(it)
        for number in range(3):
            it.faults.next(fault.status(500), times=2)
            await page(it, number)
        assert (await slack.text()).startswith(SERIES)
        assert slack.posts.empty()
    assert slack.attempts == 1


async def test_a_receiver_that_does_not_answer_costs_a_backfill_nothing(tmp_path: Path, slack: Slack) -> None:
    """While it hangs with the first alert, a backfill goes on to its end."""
    slack.open.clear()
    async with whole(tmp_path, alerts=alerts(timeout_s=0.2), **SHAPE) as it:
        await opened(it)
        it.faults.next(fault.status(500), times=2)
        await page(it)
        await slack.reached.wait()
        result = await it.client.ensure(SERIES, START, START + 4 * HALF)
        assert result.row_count == 4 * 720
        assert slack.posts.empty()
        slack.open.set()
