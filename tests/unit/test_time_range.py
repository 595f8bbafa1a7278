"""Half-open ranges of microseconds, and their text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historyd.model.time_range import LATEST, TimeRange, between, from_datetime, iso, to_datetime

INSTANTS = st.integers(0, LATEST)


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5)])
def test_an_empty_range_cannot_be_made(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="empty"):
        TimeRange(start, end)
    assert between(start, end) is None


def test_the_end_does_not_belong_to_a_range() -> None:
    window = TimeRange(10, 20)
    assert 10 in window
    assert 19 in window
    assert 20 not in window
    assert not window.overlaps(TimeRange(20, 30))


@given(INSTANTS)
def test_an_instant_survives_being_a_datetime(instant: int) -> None:
    assert from_datetime(to_datetime(instant)) == instant


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        from_datetime(datetime(2024, 1, 1))  # noqa: DTZ001 - the point


def test_another_zone_is_the_same_instant() -> None:
    there = datetime(2024, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    assert from_datetime(there) == from_datetime(datetime(2024, 1, 1, tzinfo=UTC))


def test_text_is_iso_in_utc() -> None:
    assert iso(1_704_067_200_000_000) == "2024-01-01T00:00:00Z"
    assert iso(1_704_067_200_000_001) == "2024-01-01T00:00:00.000001Z"
    assert iso(LATEST) == "9999-12-31T00:00:00Z"
    assert str(TimeRange(0, 60_000_000)) == "1970-01-01T00:00:00Z/1970-01-01T00:01:00Z"
