"""Ensure, plan, coverage and the lists, of both clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from markethistory import (
    AccessDenied,
    CoverageSpan,
    CoverageState,
    EnsurePlan,
    EnsureProgress,
    EnsureResult,
    InvalidRequest,
    Market,
    MarketHistoryError,
    Markets,
    Refused,
    ServerError,
    StoredSeries,
    TimedOut,
    TimeRange,
    Unavailable,
    Wait,
    WaitCause,
)
from markethistory.v1 import coverage_pb2, series_pb2
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import MINUTE, SERIES, START, Break, FakeHistory, covered, error_info, serving, stamp, window
from tests.unit.client.peers import Face, aio_face, sync_face

END = START + 10 * MINUTE
faces = pytest.mark.parametrize("call", [sync_face, aio_face], ids=["sync", "aio"])
PENDING = coverage_pb2.CoverageSpan(range=window(END - MINUTE, END), state=coverage_pb2.COVERAGE_STATE_PENDING)


def plan(pages: int, end: datetime = END) -> pb.EnsureRangeResponse:
    return pb.EnsureRangeResponse(
        plan=pb.EnsurePlan(
            range=window(START, end),
            missing=[window(START, end)] if pages else [],
            page_count=pages,
            call_count=pages,
            byte_count=pages * 480,
            least_duration=Duration(seconds=pages),
        )
    )


def progress(pages: int, **more: Any) -> pb.EnsureRangeResponse:
    return pb.EnsureRangeResponse(
        progress=pb.EnsureProgress(pages_done=pages, rows_done=pages * 10, calls_done=pages + 1, **more)
    )


def result(pages: int, *uncovered: coverage_pb2.CoverageSpan) -> pb.EnsureRangeResponse:
    return pb.EnsureRangeResponse(
        result=pb.EnsureResult(row_count=pages * 10, page_count=pages, call_count=pages + 1, uncovered=uncovered)
    )


@faces
def test_an_ensure_tells_plan_and_progress_and_returns_the_result(call: Face) -> None:
    wait = pb.EnsureWait(cause=pb.EnsureWait.CAUSE_QUOTA, until=stamp(END), detail="binance")
    steps = [
        plan(2),
        progress(1, remaining=Duration(seconds=3), page=window(START, START + MINUTE)),
        progress(1, wait=wait),
        result(2, PENDING),
    ]
    told: list[Any] = []
    with serving(FakeHistory({"EnsureRange": lambda _: steps})) as target:
        answer = call(target, "ensure", SERIES, START, END, on_progress=told.append)
    whole = TimeRange(START, END)
    expected_plan = EnsurePlan(whole, (whole,), 2, 2, 960, timedelta(seconds=2))
    assert told == [
        expected_plan,
        EnsureProgress(1, 10, 2, timedelta(seconds=3), TimeRange(START, START + MINUTE)),
        EnsureProgress(1, 10, 2, wait=Wait(WaitCause.QUOTA, END, "binance")),
    ]
    pending = CoverageSpan(TimeRange(END - MINUTE, END), CoverageState.PENDING)
    assert answer == EnsureResult(expected_plan, 20, 2, 3, (pending,), 0)


@faces
def test_a_plan_fetches_nothing(call: Face) -> None:
    fake = FakeHistory({"EnsureRange": lambda _: [plan(3)]})
    with serving(fake) as target:
        answer = call(target, "plan", SERIES, START, END, refresh=True)
    assert answer.page_count == 3
    assert fake.requests == [
        pb.EnsureRangeRequest(series=SERIES, range=window(START, END), refresh=True, plan_only=True)
    ]


@faces
@pytest.mark.parametrize("end", [Break(grpc.StatusCode.UNAVAILABLE), None], ids=["error", "silence"])
def test_a_broken_ensure_is_asked_again_and_its_counts_add_up(call: Face, end: Break | None) -> None:
    """The moving end is fixed by the first plan; counters never decrease; the plan is told once."""
    rounds: list[list[Any]] = [
        [plan(4), progress(1), progress(3), *([end] if end else [])],
        [plan(1), progress(1), result(1)],
    ]
    fake = FakeHistory({"EnsureRange": lambda _: rounds.pop(0)})
    told: list[Any] = []
    with serving(fake) as target:
        answer = call(target, "ensure", SERIES, START, on_progress=told.append)
    assert [event.pages_done for event in told[1:]] == [1, 3, 4]
    assert (answer.page_count, answer.row_count, answer.call_count) == (4, 40, 6)
    assert not isinstance(told[1], EnsurePlan)
    assert fake.requests[1].range == window(START, END)


@faces
def test_an_error_after_the_result_changes_nothing(call: Face) -> None:
    end = Break(grpc.StatusCode.INTERNAL, info=error_info("INTERNAL"))
    with serving(FakeHistory({"EnsureRange": lambda _: [plan(1), result(1), end]})) as target:
        assert call(target, "ensure", SERIES, START, END).page_count == 1


@faces
def test_an_ensure_that_keeps_breaking_raises_in_the_end(call: Face) -> None:
    fake = FakeHistory({"EnsureRange": lambda _: [plan(4), Break(grpc.StatusCode.UNAVAILABLE)]})
    with serving(fake) as target, pytest.raises(Unavailable):
        call(target, "ensure", SERIES, START, END)
    assert len(fake.requests) == 4


@faces
def test_what_the_callback_raises_ends_the_call_as_it_is(call: Face) -> None:
    """Even one of our own errors, which must not be taken for the stream's."""
    error = Unavailable("the callback's own", code=grpc.StatusCode.UNAVAILABLE)

    def callback(_: object) -> None:
        raise error

    fake = FakeHistory({"EnsureRange": lambda _: [plan(1), result(1)]})
    with serving(fake) as target, pytest.raises(Unavailable) as caught:
        call(target, "ensure", SERIES, START, END, on_progress=callback)
    assert caught.value is error
    assert len(fake.requests) == 1


@faces
def test_coverage_gives_plain_spans(call: Face) -> None:
    reply = pb.CoverageResponse(
        range=window(START, END),
        spans=[
            covered(START, START + MINUTE, 1),
            coverage_pb2.CoverageSpan(
                range=window(START + MINUTE, END), state=coverage_pb2.COVERAGE_STATE_UNREACHABLE, reason="delisted"
            ),
        ],
    )
    fake = FakeHistory({"Coverage": lambda _: [reply]})
    with serving(fake) as target:
        spans = call(target, "coverage", SERIES, START, END)
    assert spans == [
        CoverageSpan(TimeRange(START, START + MINUTE), CoverageState.COVERED, 1, START + 2 * MINUTE),
        CoverageSpan(TimeRange(START + MINUTE, END), CoverageState.UNREACHABLE, reason="delisted"),
    ]
    assert fake.requests == [pb.CoverageRequest(series=SERIES, range=window(START, END))]


@faces
def test_lists_are_read_to_their_last_page(call: Face) -> None:
    pages = {
        "": pb.ListSeriesResponse(
            series=[
                series_pb2.Series(
                    series=SERIES, first_time=stamp(START), last_time=stamp(END), row_count=11, byte_count=528,
                    covered=window(START, END + MINUTE),
                )
            ],
            next_page_token="t",
        ),
        "t": pb.ListSeriesResponse(series=[series_pb2.Series(series="trades:okx:X/Y")]),
    }  # fmt: skip
    fake = FakeHistory({"ListSeries": lambda request: [pages[request.page_token]]})
    with serving(fake) as target:
        found = call(target, "series", "*")
    assert found == [
        StoredSeries(SERIES, START, END, 11, 528, TimeRange(START, END + MINUTE)),
        StoredSeries("trades:okx:X/Y", None, None, 0, 0, None),
    ]
    assert [request.pattern for request in fake.requests] == ["*", "*"]


@faces
def test_markets_are_read_to_their_last_page(call: Face) -> None:
    pages = {
        "": pb.ListMarketsResponse(
            markets=[series_pb2.Market(symbol="A/B", type="spot", active=True, listed_time=stamp(START))],
            timeframes=["1m", "1h"],
            next_page_token="t",
        ),
        "t": pb.ListMarketsResponse(markets=[series_pb2.Market(symbol="C/D:D", type="swap")], timeframes=["1m", "1h"]),
    }
    with serving(FakeHistory({"ListMarkets": lambda request: [pages[request.page_token]]})) as target:
        found = call(target, "markets", "binance", "*/*")
    assert found == Markets((Market("A/B", "spot", True, START), Market("C/D:D", "swap", False)), ("1m", "1h"))


@faces
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.DEADLINE_EXCEEDED, TimedOut),
        (grpc.StatusCode.UNAUTHENTICATED, AccessDenied),
        (grpc.StatusCode.PERMISSION_DENIED, AccessDenied),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.UNIMPLEMENTED, ServerError),
    ],
)
def test_every_status_has_its_error(call: Face, code: grpc.StatusCode, kind: type[MarketHistoryError]) -> None:
    info = error_info("VENUE_REFUSED", http_status="451")
    fake = FakeHistory({"Coverage": lambda _: [Break(code, "why", info)]})
    with serving(fake) as target, pytest.raises(MarketHistoryError, match="why") as caught:
        call(target, "coverage", SERIES)
    assert type(caught.value) is kind
    assert (caught.value.reason, caught.value.metadata) == ("VENUE_REFUSED", {"http_status": "451"})
    assert caught.value.retry_after_s is None


@faces
def test_details_that_cannot_be_read_do_not_hide_the_error(call: Face) -> None:
    def coverage(_: object) -> list[Any]:
        raise AssertionError("an error that the server did not map")

    with serving(FakeHistory({"Coverage": coverage})) as target, pytest.raises(ServerError) as caught:
        call(target, "coverage", SERIES)
    assert caught.value.code is grpc.StatusCode.UNKNOWN


def test_a_timeout_covers_resumed_calls_and_pauses() -> None:
    """The pause that the server asks for would end after the deadline, so its error is raised at once."""
    import markethistory

    away = Break(grpc.StatusCode.UNAVAILABLE, "away", error_info("SHUTTING_DOWN"), timedelta(seconds=25))
    fake = FakeHistory({"EnsureRange": lambda _: [plan(1), away]})
    with serving(fake) as target, markethistory.connect(target) as client, pytest.raises(Unavailable):
        client.ensure(SERIES, START, END, timeout=20)
    assert len(fake.requests) == 1


def test_a_timeout_that_has_passed_raises_timed_out() -> None:
    import markethistory

    with markethistory.connect("127.0.0.1:1") as client, pytest.raises(TimedOut):
        client.read(SERIES, START, END, timeout=0)


def test_times_come_back_aware_and_in_utc() -> None:
    fake = FakeHistory({"Coverage": lambda _: [pb.CoverageResponse(spans=[covered(START, END, 1)])]})
    with serving(fake) as target:
        [span] = sync_face(target, "coverage", SERIES)
    assert span.range.start == datetime(2024, 1, 1, tzinfo=UTC)
    assert span.range.start.tzinfo is UTC
