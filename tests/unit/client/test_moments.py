"""Times as they are typed on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from markethistory.cli.moments import moment, window
from markethistory.cli.running import WrongUsage

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("0s", timedelta()),
    ],
)
def test_a_span_means_so_long_before_now(text: str, before: timedelta) -> None:
    assert moment(text, "--start", NOW) == NOW - before


def test_a_span_that_reaches_before_1970_means_1970() -> None:
    assert moment("999999999w", "--start", NOW) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["7", "d", "7D", "7 d", "-7d", "1.5d", "7M", ""])
def test_what_is_no_span_and_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no ISO 8601 time"):
        moment(text, "--start", NOW)


def test_both_ends_are_measured_by_one_clock() -> None:
    start, end = window("2d", "1d")
    assert start is not None
    assert end is not None
    assert end - start == timedelta(days=1)


def test_ends_that_cross_are_refused() -> None:
    with pytest.raises(WrongUsage, match="--start 1d must be earlier than --end 1d"):
        window("1d", "1d")
