"""The truth about an exchange's rows, from its mouth to the client's report."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from historyd.demo.candles import RandomWalk
from markethistory.quality import QualityDay
from markethistory.values import TimeRange
from tests import venue_faults as fault
from tests.e2e.whole import rows_of, whole
from tests.source_lab import floats

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.whole import Whole

SERIES = "ohlcv:binance:BTC/USDT:1m"
DAY = timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + 3 * DAY
START_MS = 1_704_067_200_000
MINUTE_MS = 60_000
EARLIER = datetime(2023, 12, 1, tzinfo=UTC)

# What is wrong with a row, by the reason that it is set aside for: its cells are open time, OHLC, volume.
WRONG: dict[str, dict[int, Any]] = {
    "no_timestamp": {0: None},
    "off_grid": {0: 1},
    "not_finite": {4: "NaN"},
    "price_not_positive": {3: "-1"},
    "high_below_body": {2: "1"},
    "low_above_body": {3: "9999999", 2: "99999999"},
    "negative_volume": {5: "-1"},
    "superseded": {},
}
SPOILED = {"no_timestamp", "off_grid", "superseded"}
"""The first two are of no bar, of the third a good row is there too."""


def spoil(rows: list[list[Any]]) -> list[list[Any]]:
    """Breaks each rule once, in rows side by side, the first at the 100th."""
    for place, (reason, cells) in enumerate(WRONG.items(), 100):
        row = rows[place]
        if reason == "superseded":
            rows.insert(place, [*row[:4], row[1], *row[5:]])
        for cell, value in cells.items():
            row[cell] = row[cell] + value if reason == "off_grid" else value
    return rows


async def opened(it: Whole) -> None:
    """Opens the series, so that the fault that follows hits the page asked for next."""
    await it.client.ensure(SERIES, EARLIER, EARLIER + DAY)


async def test_bad_rows_of_every_rule_are_told_counted_and_listed_and_all_others_are_served(tmp_path: Path) -> None:
    async with whole(tmp_path, window_size=720) as it:
        await opened(it)
        it.faults.next(fault.spoilt(spoil))
        result = await it.client.ensure(SERIES, START, START + DAY / 2)
        await it.client.ensure(SERIES, START, END)
        table = await it.client.read(SERIES, START, END)
        report = await it.client.quality(SERIES, START, END, row_limit=100)
    assert result.quarantined_count == len(WRONG)
    assert json.loads(table.schema.metadata[b"markethistory"])["quarantined_count"] == len(WRONG)

    bad_ms = {reason: START_MS + place * MINUTE_MS for place, reason in enumerate(WRONG, 100)}
    good = floats(RandomWalk().bars("BTCUSDT", "1m", START_MS, START_MS + 3 * 1440 * MINUTE_MS - 1, 10_000))
    gone = {at for reason, at in bad_ms.items() if reason != "superseded"}
    assert rows_of(table) == [row for row in good if row[0] not in gone]

    counted: dict[str, int] = {}
    for day in report.days:
        for reason, rows in day.quarantined.items():
            counted[reason] = counted.get(reason, 0) + rows
    assert counted == dict.fromkeys(sorted(WRONG), 1)
    listed = {row.reason: json.loads(row.row)["ts"] for row in report.quarantined_rows}
    told_ms = bad_ms | {"no_timestamp": None, "off_grid": bad_ms["off_grid"] + 1}
    assert listed == {reason: None if at is None else at * 1000 for reason, at in told_ms.items()}
    assert [row.at for row in report.quarantined_rows] == sorted(row.at for row in report.quarantined_rows)


async def test_a_report_says_of_each_day_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    """A day with bad rows, one that was revised by a refresh, one half fetched, and none of it costs a call."""
    async with whole(tmp_path, window_size=720) as it:
        await opened(it)
        it.faults.next(fault.spoilt(spoil))
        await it.client.ensure(SERIES, START, START + DAY / 2)
        await it.client.ensure(SERIES, START + DAY / 2, START + 5 * DAY / 2)
        it.faults.next(fault.with_cell(7, 5, "0"))
        refreshed = await it.client.ensure(SERIES, START + DAY, START + 3 * DAY / 2, refresh=True)
        assert refreshed.call_count == 1
        calls = it.exchange.count("/klines")
        report = await it.client.quality(SERIES, START, END)
        clipped = await it.client.quality(SERIES, START + timedelta(minutes=100), START + timedelta(minutes=110))
        assert it.exchange.count("/klines") == calls
    first, second, third = report.days
    assert [day.range for day in report.days] == [TimeRange(START + n * DAY, START + (n + 1) * DAY) for n in range(3)]
    assert (first.expected_count, first.row_count, first.spoiled_count, first.empty_count) == (1438, 1433, 5, 2)
    assert first.quarantined == dict.fromkeys(sorted(WRONG), 1)
    assert second == QualityDay(
        second.range,
        1440,
        1440,
        revised_count=1,
        zero_volume_count=1,
        zero_volume_run_count=1,
        longest_zero_volume_run=1,
    )
    assert (third.row_count, third.missing_count, third.expected_count, third.pending_count) == (720, 720, 1440, 0)
    (few,) = clipped.days
    assert (few.row_count, few.expected_count, few.spoiled_count, few.empty_count) == (3, 8, 5, 2)
    assert len(SPOILED) + few.spoiled_count == len(WRONG)


async def test_what_has_not_closed_is_pending_and_a_series_never_asked_for_is_missing(tmp_path: Path) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    async with whole(tmp_path) as it:
        (day,) = (await it.client.quality("ohlcv:binance:ETH/USDT:1h", today, today + DAY)).days
        assert it.exchange.count() == 0
    assert (day.row_count, day.expected_count) == (0, day.missing_count)
    assert day.missing_count + day.pending_count == 24
    assert day.pending_count >= 1
