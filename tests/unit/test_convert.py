"""Requests of the contract: every bound is checked, and the error names the field."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from historyd.arrow.ipc import Compression
from historyd.coverage import Span, State
from historyd.engine.events import EnsurePlan, EnsureProgress, EnsureResult, ReadSummary
from historyd.errors import InvalidField, InvalidSeries
from historyd.model.rows import RowKey
from historyd.model.time_range import EARLIEST, LATEST, TimeRange
from historyd.model.venue import Market
from historyd.model.wait import Wait, WaitCause
from historyd.service import convert, paging, requests
from historyd.stores.base import StoredSeries
from markethistory.v1 import coverage_pb2, series_pb2
from markethistory.v1 import history_service_pb2 as pb
from tests.rows import BTC, BTC_TRADES

SECOND = 1_000_000
NOW = 1_704_067_200 * SECOND
"""2024-01-01."""


def at(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


def read(**fields: object) -> pb.ReadRangeRequest:
    base: dict[str, object] = {"series": str(BTC), "range": series_pb2.TimeRange(start=at(60), end=at(120))}
    return pb.ReadRangeRequest(**(base | fields))  # type: ignore[arg-type]  # each test gives fields of its own


def refused(request: pb.ReadRangeRequest) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        requests.reading(request, NOW)
    return caught.value


def test_a_plain_read_has_the_contracts_defaults() -> None:
    reading = requests.reading(read(), NOW)
    assert reading.request.series == BTC
    assert reading.request.window == TimeRange(60 * SECOND, 120 * SECOND)
    assert (reading.request.last, reading.request.ensure, reading.request.require_complete) == (0, False, False)
    assert reading.request.after is None
    assert reading.columns == ("ts", "open", "high", "low", "close", "volume")
    assert reading.max_chunk_bytes == 1_048_576
    assert reading.compression is Compression.NONE


def test_an_absent_end_is_now_and_an_absent_start_is_1970() -> None:
    assert requests.coverage_window(pb.CoverageRequest(), NOW) == TimeRange(EARLIEST, NOW)
    asked = read(range=series_pb2.TimeRange(start=at(60)))
    assert requests.reading(asked, NOW).request.window == TimeRange(60 * SECOND, NOW)


def test_microseconds_count_and_the_bounds_belong_to_time() -> None:
    asked = read(range=series_pb2.TimeRange(start=at(0, 1000), end=at(LATEST // SECOND)))
    assert requests.reading(asked, NOW).request.window == TimeRange(1, LATEST)


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (at(120), at(120), "range.end"),
        (at(121), at(120), "range.end"),
        (at(60, 1), at(120), "range.start"),
        (at(60), at(120, 999), "range.end"),
        (at(60, 1_000_000_000), at(120), "range.start"),
        (at(60, -1000), at(120), "range.start"),
        (at(-1), at(120), "range.start"),
        (at(60), at(LATEST // SECOND, 1000), "range.end"),
        (at(60), at(2**62), "range.end"),
        (at(NOW // SECOND), None, "range.start"),
    ],
)
def test_a_range_that_is_none_is_refused_by_the_name_of_its_end(
    start: Timestamp, end: Timestamp | None, field: str
) -> None:
    assert refused(read(range=series_pb2.TimeRange(start=start, end=end))).metadata["field"] == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"range": None}, "range"),
        ({"last": -1}, "last"),
        ({"last": 10_000_001}, "last"),
        ({"last": 5, "range": series_pb2.TimeRange(end=at(0))}, "range.end"),
        ({"columns": ["close", "clsoe"]}, "columns"),
        ({"columns": ["seq"]}, "columns"),
        ({"max_chunk_bytes": 65_535}, "max_chunk_bytes"),
        ({"max_chunk_bytes": 3_145_729}, "max_chunk_bytes"),
        ({"max_chunk_bytes": -1}, "max_chunk_bytes"),
        ({"compression": 3}, "compression"),
        ({"resume_after": pb.RowKey()}, "resume_after.ts"),
        ({"resume_after": pb.RowKey(ts=at(60, 1))}, "resume_after.ts"),
        ({"resume_after": pb.RowKey(ts=at(60), seq=-1)}, "resume_after.seq"),
    ],
)
def test_a_field_out_of_its_bounds_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    assert refused(read(**fields)).metadata["field"] == field


def test_an_unknown_column_is_named_with_those_there_are() -> None:
    assert "'clsoe'" in str(refused(read(columns=["clsoe"])))
    assert "volume" in str(refused(read(columns=["clsoe"])))


def test_a_bad_series_id_is_no_mere_invalid_field() -> None:
    assert isinstance(refused(read(series="ohlcv:binance")), InvalidSeries)


def test_last_counts_back_from_the_end_whatever_the_start() -> None:
    asked = read(last=5, range=series_pb2.TimeRange(start=at(110), end=at(120)))
    assert requests.reading(asked, NOW).request.window == TimeRange(EARLIEST, 120 * SECOND)
    assert requests.reading(read(last=5, range=None), NOW).request.window == TimeRange(EARLIEST, NOW)


def few(**fields: object) -> pb.ReadLastRequest:
    return pb.ReadLastRequest(**({"series": str(BTC), "count": 5} | fields))  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("count", [1, 1_000])
def test_a_few_last_rows_are_asked_of_the_engine_as_last_rows_are(count: int) -> None:
    fields = {"ensure": True, "require_complete": True, "columns": ["close"]}
    asked = requests.last_reading(few(count=count, end=at(120), **fields), NOW)
    same = requests.reading(read(last=count, range=series_pb2.TimeRange(end=at(120)), **fields), NOW)
    assert (asked.request, asked.columns, asked.compression) == (same.request, same.columns, same.compression)
    assert requests.last_reading(few(count=count), NOW).request.window == TimeRange(EARLIEST, NOW)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": -1}, "count"),
        ({"count": 1_001}, "count"),
        ({"end": at(0)}, "end"),
        ({"end": at(60, 1)}, "end"),
        ({"columns": ["clsoe"]}, "columns"),
        ({"series": "ohlcv:binance"}, "series"),
    ],
)
def test_a_field_of_a_few_last_rows_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    with pytest.raises((InvalidField, InvalidSeries)) as caught:
        requests.last_reading(few(**fields), NOW)
    assert caught.value.metadata.get("field", "series") == field


def test_columns_come_in_the_schemas_order_with_ts() -> None:
    assert requests.reading(read(columns=["volume", "open", "open"]), NOW).columns == ("ts", "open", "volume")
    trades = requests.reading(read(series=str(BTC_TRADES), columns=["side", "seq"]), NOW)
    assert trades.columns == ("ts", "seq", "side")


def test_the_key_to_resume_after_is_exact() -> None:
    asked = read(resume_after=pb.RowKey(ts=at(60, 1000), seq=7))
    assert requests.reading(asked, NOW).request.after == RowKey(60 * SECOND + 1, 7)


def test_ensure_needs_a_start() -> None:
    with pytest.raises(InvalidField, match=r"range\.start"):
        requests.ensure_window(pb.EnsureRangeRequest(range=series_pb2.TimeRange(end=at(120))), NOW)


@pytest.mark.parametrize("name", ["", "Binance", "bin ance", "b" * 41])
def test_an_exchange_is_named_in_lower_case(name: str) -> None:
    with pytest.raises(InvalidField, match="exchange"):
        requests.exchange_id(name)


def test_page_sizes_have_bounds_and_a_default() -> None:
    assert [requests.page_size(size) for size in (0, 1, 1000)] == [100, 1, 1000]
    for size in (-1, 1001):
        with pytest.raises(InvalidField, match="page_size"):
            requests.page_size(size)


def test_a_pattern_has_a_length_and_defaults_to_all() -> None:
    assert requests.pattern("") == "*"
    with pytest.raises(InvalidField, match="pattern"):
        requests.pattern("x" * 201)


@given(st.text(max_size=80), st.text(max_size=30))
def test_a_page_token_leads_back_to_its_name(after: str, pattern: str) -> None:
    assert paging.after_of(paging.page_token(after, "series", pattern), "series", pattern) == after


@pytest.mark.parametrize(
    "token",
    ["x", "!!!!", "AAAA", "b2hsY3Y=", paging.page_token("a", "series", "b*"), paging.page_token("a", "markets", "*")],
)
def test_a_foreign_page_token_is_refused(token: str) -> None:
    """Garbage, and the tokens of another pattern and another list."""
    with pytest.raises(InvalidField) as caught:
        paging.after_of(token, "series", "*")
    assert caught.value.metadata["field"] == "page_token"


@pytest.mark.parametrize(
    ("pattern", "symbol", "matches"),
    [
        ("*", "BTC/USDT", True),
        ("BTC/*", "BTC/USDT:USDT", True),
        ("BTC/*", "ABTC/USDT", False),
        ("?TC/USDT", "BTC/USDT", True),
        ("?TC/USDT", "WBTC/USDT", False),
        ("B.C/USDT", "BTC/USDT", False),
        ("[AB]*", "BTC/USDT", False),
    ],
)
def test_patterns_know_two_signs(pattern: str, symbol: str, matches: bool) -> None:
    assert (paging.matcher(pattern).fullmatch(symbol) is not None) is matches


@given(st.integers(EARLIEST, LATEST))
def test_instants_survive_the_wire(instant: int) -> None:
    stamp = convert.timestamp(instant)
    window = (
        requests.coverage_window(pb.CoverageRequest(range=series_pb2.TimeRange(end=stamp)), NOW) if instant else None
    )
    assert 0 <= stamp.nanos < 10**9
    assert (window.end if window else 0) == instant


def test_every_state_and_cause_has_its_number() -> None:
    numbers = [number for number in coverage_pb2.CoverageState.values() if number]
    assert sorted(convert.span(Span(TimeRange(0, 1), state)).state for state in State) == sorted(numbers)
    for state in State:
        sent = convert.span(Span(TimeRange(0, 1), state)).state
        assert coverage_pb2.CoverageState.Name(sent) == f"COVERAGE_STATE_{state.name}"
    for cause in WaitCause:
        event = convert.ensure_event(EnsureProgress(0, 0, 0, wait=Wait(cause, 5 * SECOND, "key")))
        assert pb.EnsureWait.Cause.Name(event.progress.wait.cause) == f"CAUSE_{cause.name}"


def test_what_the_model_leaves_out_is_absent() -> None:
    span = convert.span(Span(TimeRange(0, SECOND), State.MISSING))
    assert not span.HasField("checked_at")
    progress = convert.ensure_event(EnsureProgress(1, 2, 3)).progress
    assert not any(progress.HasField(name) for name in ("remaining", "page", "wait"))
    series = convert.stored_series(StoredSeries(BTC, None, None, 0, 0, None))
    assert not any(series.HasField(name) for name in ("first_time", "last_time", "covered"))
    assert not convert.market(Market("BTC/USDT", "spot", active=True)).HasField("listed_time")


def test_the_messages_of_an_ensure_say_what_the_engine_says() -> None:
    window = TimeRange(0, 60 * SECOND)
    plan = convert.ensure_event(EnsurePlan(window, (window,), 2, 3, 4, 1.5)).plan
    assert (plan.page_count, plan.call_count, plan.byte_count) == (2, 3, 4)
    assert (plan.least_duration.seconds, plan.least_duration.nanos) == (1, 500_000_000)
    assert plan.missing[0].end.seconds == 60
    result = convert.ensure_event(EnsureResult(7, 2, 3, (Span(window, State.UNREACHABLE, reason="why"),), 1)).result
    assert (result.row_count, result.page_count, result.call_count, result.quarantined_count) == (7, 2, 3, 1)
    assert result.uncovered[0].reason == "why"


def test_a_summary_says_what_the_engine_says() -> None:
    sent = convert.summary(ReadSummary(9, NOW, (Span(TimeRange(0, SECOND), State.PENDING),), 2, complete=True))
    assert (sent.row_count, sent.closed_through.seconds, sent.quarantined_count) == (9, NOW // SECOND, 2)
    assert sent.complete
    assert sent.uncovered[0].state == coverage_pb2.COVERAGE_STATE_PENDING
