"""Log lines: one a record, whatever the values in it."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from historyd.observability.logging import LineFormatter
from historyd.service.calls import Calls


def line(message: str = "call", **fields: object) -> str:
    record = logging.LogRecord("historyd.access", logging.INFO, "", 0, message, (), None)
    record.created, record.msecs = 1_704_067_200.25, 250.0
    record.__dict__["fields"] = fields
    return LineFormatter().format(record)


def test_a_line_has_its_time_in_utc_and_its_fields() -> None:
    assert line(method="ReadRange", series="ohlcv:binance:BTC/USDT:1m", ms="0.71", rows=120) == (
        "2024-01-01T00:00:00.250Z INFO historyd.access call "
        "method=ReadRange series=ohlcv:binance:BTC/USDT:1m ms=0.71 rows=120"
    )


@pytest.mark.parametrize("series", ["a b", 'a"b', "a\nINFO forged", "a=b", "", "a\u2028b", "\x1b[31m"])
def test_a_client_cannot_forge_a_line_or_a_field(series: str) -> None:
    told = line(series=series, rows=1)
    assert len(told.splitlines()) == 1
    assert re.search(r' series="[^\x00-\x1f]*" rows=1$', told)


def test_a_message_of_two_lines_is_one_line() -> None:
    assert line("a\nb").splitlines() == [line("a\nb")]


async def test_the_last_call_to_end_makes_it_idle() -> None:
    calls = Calls()
    await calls.idle()
    first, second = calls.begin("Coverage", "s"), calls.begin("Coverage", "s")
    waiting = asyncio.ensure_future(calls.idle())
    calls.end(first)
    await asyncio.sleep(0)
    assert not waiting.done()
    calls.end(second)
    await waiting


async def test_a_line_is_written_when_the_log_is_flushed_and_not_twice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "historyd.access")
    calls = Calls()
    call = calls.begin("Coverage", "s")
    call.rows, call.status = 7, "NO_SOURCE"
    calls.end(call)
    calls.flush()
    calls.flush()
    (record,) = caplog.records
    fields = record.__dict__["fields"]
    assert (fields["method"], fields["status"], fields["rows"]) == ("Coverage", "NO_SOURCE", 7)
