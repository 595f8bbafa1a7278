"""What an exchange does wrong, seen from the client: the right status and repetition, and nothing false covered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from historyd.demo.candles import RandomWalk
from markethistory.errors import MarketHistoryError
from markethistory.values import CoverageState
from tests import venue_faults as fault
from tests.e2e.whole import Whole, rows_of, whole
from tests.source_lab import floats

if TYPE_CHECKING:
    from pathlib import Path

    from tests.venue_faults import Fault

SERIES = "ohlcv:binance:BTC/USDT:1m"
START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 1, 1, 12, tzinfo=UTC)
WANTED = floats(RandomWalk().bars("BTCUSDT", "1m", 1_704_067_200_000, 1_704_067_200_000 + 719 * 60_000, 1000))
NO_SUCH_SYMBOL = '{"code":-1121,"msg":"Invalid symbol."}'


async def states(it: Whole) -> set[CoverageState]:
    return {span.state for span in await it.client.coverage(SERIES, START, END)}


async def opened(it: Whole) -> None:
    """Opens the series, so that the faults that follow hit the pages."""
    await it.client.ensure(SERIES, datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC))


MENDABLE = {
    "html": fault.html(),
    "empty body": fault.empty_body(),
    "truncated": fault.truncated(),
    "an object": fault.answer('{"data": []}'),
    "rows that are none": fault.answer("[1, 2]"),
    "429": fault.status(429),
    "429 for a moment": fault.status(429, retry_after="0"),
    "418": fault.status(418, retry_after="0"),
    "500": fault.status(500, body='{"code":-1000}'),
    "502": fault.html(502),
    "503": fault.status(503),
    "reset": fault.reset(),
    "nonsense": fault.spoilt(lambda rows: [[row[0], "1", "0.5", "1", "1", "1"] for row in rows]),
}


@pytest.mark.parametrize("wrong", MENDABLE.values(), ids=MENDABLE)
async def test_what_a_retry_can_mend_is_mended_and_the_rows_are_exact(
    tmp_path: Path, store: dict[str, Any], wrong: Fault
) -> None:
    async with whole(tmp_path, store=store, rate_limiter={"penalty_backoff_ms": 1}) as it:
        await opened(it)
        it.faults.next(wrong)
        table = await it.client.read(SERIES, START, END, require_complete=True)
        assert it.faults.left == 0
        assert rows_of(table) == WANTED


FATAL = {
    "html": (fault.html(), 3, "BAD_ANSWER"),
    "empty body": (fault.empty_body(), 3, "BAD_ANSWER"),
    "truncated": (fault.truncated(), 3, "BAD_ANSWER"),
    "an object": (fault.answer('{"data": []}'), 3, "BAD_ANSWER"),
    "nonsense": (fault.spoilt(lambda rows: [[row[0], "1", "0.5", "1", "1", "1"] for row in rows]), 3, "BAD_ANSWER"),
    "off the grid": (fault.spoilt(lambda rows: [[row[0] + 7, *row[1:]] for row in rows]), 3, "BAD_ANSWER"),
    "429": (fault.status(429), 3, "RATE_LIMITED"),
    "418 for three days": (fault.status(418, retry_after="259200"), 1, "RATE_LIMITED"),
    "403": (fault.html(403), 1, "VENUE_REFUSED"),
    "451": (fault.status(451), 1, "VENUE_REFUSED"),
    "500": (fault.status(500, body='{"code":-1000}'), 3, "EXCHANGE_UNAVAILABLE"),
    "reset": (fault.reset(), 3, "EXCHANGE_UNAVAILABLE"),
    "an unknown symbol after all": (
        fault.status(400, body='{"code":-1121,"msg":"Invalid symbol."}'),
        1,
        "UNKNOWN_SYMBOL",
    ),
}


@pytest.mark.parametrize(("wrong", "attempts", "reason"), FATAL.values(), ids=FATAL)
async def test_what_stays_wrong_has_its_status_and_covers_nothing(
    tmp_path: Path, store: dict[str, Any], wrong: Fault, attempts: int, reason: str
) -> None:
    async with whole(tmp_path, store=store, rate_limiter={"penalty_backoff_ms": 1}) as it:
        await opened(it)
        klines = it.exchange.count("/klines")
        it.faults.next(wrong, times=20)
        with pytest.raises(MarketHistoryError) as failed:
            await it.client.ensure(SERIES, START, END)
        assert failed.value.reason == reason
        assert 20 - it.faults.left == attempts
        assert it.exchange.count("/klines") - klines == attempts
        assert await states(it) == {CoverageState.MISSING}


async def test_a_venue_that_hangs_is_unavailable(tmp_path: Path, store: dict[str, Any]) -> None:
    async with whole(tmp_path, store=store, ccxt={"timeout": 1000}, max_retries=1) as it:
        await opened(it)
        it.faults.next(fault.hang())
        with pytest.raises(MarketHistoryError) as failed:
            await it.client.ensure(SERIES, START, END)
        assert failed.value.reason == "EXCHANGE_UNAVAILABLE"
        assert await states(it) == {CoverageState.MISSING}


@pytest.mark.parametrize("by_ms", [-86_400_000, 86_400_000], ids=["earlier", "later"])
async def test_rows_that_ignore_the_window_are_unreachable_and_not_asked_in_a_loop(
    tmp_path: Path, store: dict[str, Any], by_ms: int
) -> None:
    async with whole(tmp_path, store=store) as it:
        await opened(it)
        it.faults.next(fault.ignoring_window(by_ms), times=5)
        result = await it.client.ensure(SERIES, START, END)
        assert {span.state for span in result.uncovered} == {CoverageState.UNREACHABLE}
        calls = it.exchange.count("/klines")
        assert (await it.client.ensure(SERIES, START, END)).call_count == 0
        assert it.exchange.count("/klines") == calls


@pytest.mark.parametrize("wrong", [fault.out_of_order(), fault.duplicated()], ids=["out of order", "doubled"])
async def test_rows_in_disorder_come_back_in_order_and_once(
    tmp_path: Path, store: dict[str, Any], wrong: Fault
) -> None:
    async with whole(tmp_path, store=store) as it:
        await opened(it)
        it.faults.next(wrong)
        assert rows_of(await it.client.read(SERIES, START, END, require_complete=True)) == WANTED


async def test_a_null_volume_stays_null(tmp_path: Path, store: dict[str, Any]) -> None:
    async with whole(tmp_path, store=store) as it:
        await opened(it)
        it.faults.next(fault.null_volume(at=300))
        table = await it.client.read(SERIES, START, END, require_complete=True)
        assert table["volume"].null_count == 1
        assert table.num_rows == len(WANTED)


BAD_ROWS = {
    "off the grid": fault.off_grid(at=300),
    "not a number": fault.with_cell(300, 4, "NaN"),
    "negative volume": fault.with_cell(300, 5, "-1"),
    "high below low": fault.with_cell(300, 2, "1"),
}


@pytest.mark.parametrize("wrong", BAD_ROWS.values(), ids=BAD_ROWS)
async def test_a_bad_row_is_quarantined_and_the_others_are_served(
    tmp_path: Path, store: dict[str, Any], wrong: Fault
) -> None:
    async with whole(tmp_path, store=store) as it:
        await opened(it)
        it.faults.next(wrong)
        result = await it.client.ensure(SERIES, START, END)
        assert result.quarantined_count == 1
        stream = it.client.read_batches(SERIES, START, END)
        rows = [row async for batch in stream for row in batch.to_pylist()]
        assert len(rows) == len(WANTED) - 1
        assert stream.summary is not None
        assert stream.summary.quarantined_count == 1
        assert await states(it) == {CoverageState.COVERED}
