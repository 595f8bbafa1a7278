"""Moments as people give them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest

from markethistory.times import to_utc


@pytest.mark.parametrize(
    "moment",
    [
        "2024-01-02",
        "2024-01-02T00:00:00Z",
        "2024-01-02T09:00:00+09:00",
        "2024-01-01 19:00:00-05:00",
        "20240102T000000Z",
        date(2024, 1, 2),
        datetime(2024, 1, 2, tzinfo=UTC),
        datetime(2024, 1, 2, 9, tzinfo=timezone(timedelta(hours=9))),
        pd.Timestamp("2024-01-02", tz="UTC"),
        pd.Timestamp("2024-01-02T01:00", tz="Europe/Berlin"),
    ],
)
def test_all_spellings_of_an_instant_are_one_instant(moment: Any) -> None:
    assert to_utc(moment, "start") == datetime(2024, 1, 2, tzinfo=UTC)


def test_microseconds_are_kept() -> None:
    assert to_utc("2024-01-02T00:00:00.000001Z", "start").microsecond == 1


def test_a_result_is_a_plain_datetime() -> None:
    assert type(to_utc(pd.Timestamp("2024-01-02", tz="UTC"), "start")) is datetime


@pytest.mark.parametrize("moment", ["2024-01-02T00:00:00", datetime(2024, 1, 2), pd.Timestamp("2024-01-02")])  # noqa: DTZ001
def test_a_naive_moment_is_refused_and_the_message_says_how_to_mend_it(moment: Any) -> None:
    with pytest.raises(ValueError, match=r"^start: 2024-01-02T00:00:00 has no time zone, say which one"):
        to_utc(moment, "start")


@pytest.mark.parametrize("moment", [1704067200, 1704067200.0, None, True, pd.Timestamp("2024-01-02").to_datetime64()])
def test_a_number_is_refused_as_its_unit_is_unknown(moment: Any) -> None:
    with pytest.raises(TypeError, match="ambiguous"):
        to_utc(moment, "end")


@pytest.mark.parametrize("moment", ["yesterday", "", "2024-13-01", "1704067200000"])
def test_what_is_no_time_is_refused(moment: Any) -> None:
    with pytest.raises(ValueError, match="no ISO 8601 time"):
        to_utc(moment, "end")


@pytest.mark.parametrize("moment", ["2024-01-02T00:00:00.0000001Z", pd.Timestamp("2024-01-02T00:00:00.000000001Z")])
def test_what_is_finer_than_a_microsecond_is_refused(moment: Any) -> None:
    with pytest.raises(ValueError, match="finer than a microsecond"):
        to_utc(moment, "end")
