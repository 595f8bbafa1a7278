"""Requests for a report on quality: bounds, and pages of days that tile the range."""

from __future__ import annotations

from itertools import pairwise

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from historyd.errors import InvalidField, InvalidSeries
from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_S, TimeRange
from historyd.service import requests
from markethistory.v1 import quality_pb2, series_pb2
from tests.rows import BTC

DAY_S = 86_400
NOW = 20_000 * DAY_S * MICROS_PER_S + 7


def asked(start_s: int | None = 0, end_s: int | None = None, **fields: object) -> quality_pb2.QualityRequest:
    request = quality_pb2.QualityRequest(series=str(BTC), range=series_pb2.TimeRange(), **fields)  # type: ignore[arg-type]  # each test gives fields of its own
    if start_s is not None:
        request.range.start.CopyFrom(Timestamp(seconds=start_s))
    if end_s is not None:
        request.range.end.CopyFrom(Timestamp(seconds=end_s))
    return request


@given(st.integers(0, 40 * DAY_S), st.integers(1, 40 * DAY_S), st.integers(0, 40))
def test_pages_tile_the_range_with_whole_days_and_no_more_than_asked(start: int, width: int, size: int) -> None:
    window = TimeRange(start * MICROS_PER_S, (start + width) * MICROS_PER_S)
    request = asked(start, start + width, page_size=size)
    pages = [requests.quality_page(request, NOW)]
    while pages[-1].next_token:
        request.page_token = pages[-1].next_token
        pages.append(requests.quality_page(request, NOW))
    assert all(page.window == window and page.series == BTC for page in pages)
    assert (pages[0].days.start, pages[-1].days.end) == (window.start, window.end)
    for left, right in pairwise(page.days for page in pages):
        assert left.end == right.start
        assert left.end % MICROS_PER_DAY == 0
    for page in pages:
        touched = -(-page.days.end // MICROS_PER_DAY) - page.days.start // MICROS_PER_DAY
        assert touched <= (size or 31)


def test_the_end_that_was_now_for_the_first_page_is_the_end_of_all() -> None:
    first = requests.quality_page(asked(19_990 * DAY_S, page_size=4), NOW)
    later = asked(19_990 * DAY_S, page_size=366, page_token=first.next_token)
    rest = requests.quality_page(later, NOW + 5 * MICROS_PER_DAY)
    assert (rest.window, rest.days.end) == (first.window, NOW)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (asked(None, 5), "range.start"),
        (asked(5, 5), "range.end"),
        (asked(NOW // MICROS_PER_S + 1), "range.start"),
        (asked(page_size=367), "page_size"),
        (asked(page_size=-1), "page_size"),
        (asked(row_limit=10_001), "row_limit"),
        (asked(row_limit=-1), "row_limit"),
        (asked(page_token="of another list"), "page_token"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_field(request_: quality_pb2.QualityRequest, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        requests.quality_page(request_, NOW)
    assert refused.value.metadata["field"] == field


def test_a_token_of_another_question_is_refused() -> None:
    token = requests.quality_page(asked(0, 100 * DAY_S), NOW).next_token
    for other in (asked(1, 100 * DAY_S), asked(0, 99 * DAY_S), asked(0)):
        other.page_token = token
        with pytest.raises(InvalidField, match="page_token"):
            requests.quality_page(other, NOW)
    with pytest.raises(InvalidSeries):
        requests.quality_page(quality_pb2.QualityRequest(series="x", range=asked().range), NOW)
