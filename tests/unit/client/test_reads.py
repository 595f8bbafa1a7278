"""Reads of both clients: whole, resumed, broken for good."""

from __future__ import annotations

import json
import threading
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pytest

import markethistory
import markethistory.aio
from markethistory import (
    DataLoss,
    Incomplete,
    IncompleteHistoryWarning,
    IncompleteStream,
    NotFound,
    ServerError,
    Unavailable,
)
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.coverage_pb2 import COVERAGE_STATE_MISSING, COVERAGE_STATE_UNREACHABLE, CoverageSpan
from tests.fake_history import (
    BARS,
    MINUTE,
    SERIES,
    START,
    Break,
    FakeHistory,
    bars,
    error_info,
    frames,
    serving,
    window,
)
from tests.unit.client.peers import Face, aio_face, channel_face, cutting_relay, sync_face

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = bars(1000)
END = START + 1000 * MINUTE
BROKEN = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED]
faces = pytest.mark.parametrize("call", [sync_face, channel_face, aio_face], ids=["sync", "channel", "aio"])


def history(*cuts: tuple[int, Break | None], rows: pa.RecordBatch = ROWS, **how: Any) -> FakeHistory:
    """A server whose n-th read ends as `cuts[n]` = (messages sent, Break or None) says; later ones are whole."""
    left = list(cuts)

    def read(request: pb.ReadRangeRequest) -> list[Any]:
        messages: list[Any] = frames(rows, request, **how)
        if not left:
            return messages
        count, end = left.pop(0)
        return [*messages[:count], *([end] if end is not None else [])]

    return FakeHistory({"ReadRange": read})


@faces
def test_a_read_returns_all_rows_and_asks_once(call: Face) -> None:
    fake = history()
    with serving(fake) as target:
        table = call(target, "read", SERIES, START, END)
    assert table.schema.equals(BARS)
    assert table.equals(pa.Table.from_batches([ROWS]))
    [request] = fake.requests
    assert request == pb.ReadRangeRequest(series=SERIES, range=window(START, END), ensure=True)


@faces
def test_the_summary_rides_in_the_schema_metadata(call: Face) -> None:
    with serving(history()) as target:
        table = call(target, "read", SERIES, START, END)
    summary = json.loads(table.schema.metadata[b"markethistory"])
    assert summary == {
        "series": SERIES,
        "start": "2024-01-01T00:00:00Z",
        "end": "2024-01-01T16:40:00Z",
        "row_count": 1000,
        "closed_through": "2024-01-01T16:40:00Z",
        "complete": True,
        "quarantined_count": 0,
        "uncovered": [],
    }


@faces
def test_all_options_reach_the_server(call: Face) -> None:
    fake = history()
    with serving(fake) as target:
        table = call(
            target, "read", SERIES, "2024-01-01", "2024-01-02T00:00:00+09:00",
            columns=["close"], ensure=False, require_complete=True, compression="zstd",
        )  # fmt: skip
    assert table.column_names == ["ts", "close"]
    assert fake.requests == [
        pb.ReadRangeRequest(
            series=SERIES,
            range=window(START, START + timedelta(hours=15)),
            columns=["close"],
            require_complete=True,
            compression=pb.COMPRESSION_ZSTD,
        )
    ]


@faces
def test_an_absent_end_is_left_to_the_server(call: Face) -> None:
    fake = FakeHistory({"ReadRange": lambda _: frames(ROWS, pb.ReadRangeRequest(range=window(START, END)))})
    with serving(fake) as target:
        call(target, "read", SERIES, START)
    assert not fake.requests[0].range.HasField("end")


@faces
def test_no_rows_make_an_empty_table_with_the_schema(call: Face) -> None:
    with serving(history(rows=ROWS.slice(0, 0))) as target:
        table = call(target, "read", SERIES, START, END)
    assert table.num_rows == 0
    assert table.schema.equals(BARS)


@faces
def test_batches_come_in_order_with_the_summary_at_the_end(call: Face) -> None:
    with serving(history(chunk=90, batches_per_message=3)) as target:
        batches, summary = call(target, "read_batches", SERIES, START, END)
    assert pa.Table.from_batches(batches) == pa.Table.from_batches([ROWS])
    assert (summary.row_count, summary.complete, summary.range.end) == (1000, True, END)


@faces
@pytest.mark.parametrize("code", BROKEN, ids=[code.name for code in BROKEN])
def test_a_broken_stream_is_resumed_after_the_last_row(call: Face, code: grpc.StatusCode) -> None:
    """No row is doubled, none is lost, the range stays as it was resolved, and counts add up."""
    fake = history((3, Break(code)), (0, Break(code)), (5, Break(code)), (1, Break(code)))
    with serving(fake) as target:
        batches, summary = call(target, "read_batches", SERIES, START, END)
    assert pa.Table.from_batches(batches) == pa.Table.from_batches([ROWS])
    assert summary.row_count == 1000
    resumed_after = [request.resume_after.ts.ToDatetime(UTC) for request in fake.requests[1:]]
    assert resumed_after == [START + MINUTE * (rows - 1) for rows in (300, 300, 800, 900)]
    assert {request.range.SerializeToString() for request in fake.requests} == {window(START, END).SerializeToString()}


@faces
def test_a_stream_that_ends_well_without_its_summary_is_resumed(call: Face) -> None:
    with serving(history((4, None))) as target:
        table = call(target, "read", SERIES, START, END)
    assert table.equals(pa.Table.from_batches([ROWS]))


@faces
def test_a_stream_that_never_brings_its_summary_raises(call: Face) -> None:
    """All rows came; nobody knows that, so none are returned."""
    fake = history((9, None), *[(0, None)] * 50)
    with serving(fake) as target, pytest.raises(IncompleteStream, match="after 900 rows without its summary"):
        call(target, "read", SERIES, START, END)
    assert len(fake.requests) == 4, "the first and three that brought nothing"


@faces
def test_a_break_between_the_last_row_and_the_summary_loses_nothing(call: Face) -> None:
    def read(request: pb.ReadRangeRequest) -> list[Any]:
        messages: list[Any] = frames(ROWS, request)
        if request.HasField("resume_after"):
            return messages
        messages[-1].ClearField("summary")
        return [*messages, Break(grpc.StatusCode.UNAVAILABLE)]

    fake = FakeHistory({"ReadRange": read})
    with serving(fake) as target:
        table = call(target, "read", SERIES, START, END)
    assert len(fake.requests) == 2
    assert table.equals(pa.Table.from_batches([ROWS]))


@faces
def test_an_error_after_the_summary_changes_nothing(call: Face) -> None:
    """All is there, so that not even an error that is final matters."""
    with serving(history((10, Break(grpc.StatusCode.INTERNAL, info=error_info("INTERNAL"))))) as target:
        table = call(target, "read", SERIES, START, END)
    assert table.equals(pa.Table.from_batches([ROWS]))


@faces
def test_a_moving_end_does_not_move_when_the_stream_is_resumed(call: Face) -> None:
    """The server resolved `now` once; the resumed call asks for that very instant."""
    whole = frames(ROWS, pb.ReadRangeRequest(range=window(START, END)))

    def read(request: pb.ReadRangeRequest) -> list[Any]:
        resumed = request.HasField("resume_after")
        return frames(ROWS, request) if resumed else [whole[0], Break(grpc.StatusCode.UNAVAILABLE)]

    fake = FakeHistory({"ReadRange": read})
    with serving(fake) as target:
        call(target, "read", SERIES, START)
    assert [request.range.HasField("end") for request in fake.requests] == [False, True]
    assert fake.requests[1].range == window(START, END)


@faces
def test_many_last_rows_are_resumed_as_a_range(call: Face) -> None:
    rows = bars(3000)
    fake = history((2, Break(grpc.StatusCode.UNAVAILABLE)), rows=rows, chunk=500)
    with serving(fake) as target:
        table = call(target, "last", SERIES, 2500)
    assert table.equals(pa.Table.from_batches([rows.slice(500)]))
    assert [request.last for request in fake.requests] == [2500, 0]


@faces
@pytest.mark.parametrize("count", [0, -1, 10_000_001])
def test_a_senseless_number_of_last_rows_is_refused_before_anything_is_sent(call: Face, count: int) -> None:
    with pytest.raises(ValueError, match="count: must be from 1 to 10,000,000"):
        call("127.0.0.1:1", "last", SERIES, count)


@faces
def test_progress_renews_the_patience(call: Face) -> None:
    """Ten breaks in a row are fine if each call brings rows; IMPATIENT allows four without."""
    with serving(history(*[(1, Break(grpc.StatusCode.UNAVAILABLE))] * 9)) as target:
        assert call(target, "read", SERIES, START, END).num_rows == 1000


@faces
def test_a_connection_that_is_cut_anywhere_is_resumed(call: Face) -> None:
    """A real TCP reset in the middle of the data, three times."""
    rows = bars(20_000)
    with serving(history(rows=rows, chunk=1000)) as target, cutting_relay(target, [100_000, 50_000, 300_000]) as relay:
        table = call(relay, "read", SERIES, START, START + 20_000 * MINUTE)
    assert table.equals(pa.Table.from_batches([rows]))


@faces
def test_an_error_that_the_server_says_is_final_is_not_asked_again(call: Face) -> None:
    info = error_info("UNKNOWN_SYMBOL", symbol="BTCUSDT", nearest="BTC/USDT,BTC/USDT:USDT")
    fake = history((0, Break(grpc.StatusCode.NOT_FOUND, "no such symbol", info)))
    with serving(fake) as target, pytest.raises(NotFound, match="no such symbol") as caught:
        call(target, "read", SERIES, START, END)
    assert caught.value.nearest == ["BTC/USDT", "BTC/USDT:USDT"]
    assert (caught.value.reason, caught.value.code) == ("UNKNOWN_SYMBOL", grpc.StatusCode.NOT_FOUND)
    assert len(fake.requests) == 1


@faces
def test_damage_in_the_middle_is_raised_as_data_loss_at_once(call: Face) -> None:
    fake = history((2, Break(grpc.StatusCode.DATA_LOSS, "damaged", error_info("CORRUPT_PAGE", page="p"))))
    with serving(fake) as target, pytest.raises(DataLoss):
        call(target, "read", SERIES, START, END)
    assert len(fake.requests) == 1


@faces
def test_a_server_that_asks_for_a_pause_is_asked_again(call: Face) -> None:
    away = Break(grpc.StatusCode.UNAVAILABLE, "stopping", error_info("SHUTTING_DOWN"), timedelta(milliseconds=1))
    fake = history((2, away), (0, away))
    with serving(fake) as target:
        assert call(target, "read", SERIES, START, END).num_rows == 1000
    assert len(fake.requests) == 3


@faces
def test_what_the_server_tried_again_itself_is_not_tried_by_the_client_too(call: Face) -> None:
    """Else one dead exchange would be asked as often as both are patient, multiplied."""
    away = Break(grpc.StatusCode.UNAVAILABLE, "away", error_info("EXCHANGE_UNAVAILABLE"), timedelta(milliseconds=1))
    fake = history((2, away))
    with serving(fake) as target, pytest.raises(Unavailable, match="away") as caught:
        call(target, "read", SERIES, START, END)
    assert caught.value.retry_after_s == 0.001
    assert len(fake.requests) == 1


@faces
def test_a_pause_beyond_all_patience_is_not_waited_for(call: Face) -> None:
    away = Break(grpc.StatusCode.UNAVAILABLE, "full", error_info("STORE_UNAVAILABLE"), timedelta(hours=1))
    fake = history((0, away))
    with serving(fake) as target, pytest.raises(Unavailable, match="full") as caught:
        call(target, "read", SERIES, START, END)
    assert caught.value.retry_after_s == 3600
    assert len(fake.requests) == 1


@faces
def test_an_incomplete_read_warns_and_names_the_spans(call: Face) -> None:
    hole = CoverageSpan(
        range=window(START, START + MINUTE), state=COVERAGE_STATE_UNREACHABLE, reason="the venue keeps 720 bars"
    )
    gaps = [CoverageSpan(range=window(START + n * MINUTE, END), state=COVERAGE_STATE_MISSING) for n in range(1, 5)]
    fake = history(uncovered=[hole, *gaps], complete=False)
    with serving(fake) as target, pytest.warns(IncompleteHistoryWarning) as caught:
        table = call(target, "read", SERIES, START, END)
    [warning] = caught
    text = str(warning.message)
    assert text.startswith(f"{SERIES}: 2024-01-01T00:00:00Z/2024-01-01T00:01:00Z is unreachable (the venue keeps 720")
    assert text.endswith("; and 2 more")
    assert json.loads(table.schema.metadata[b"markethistory"])["complete"] is False


def test_the_sync_client_reads_on_the_callers_thread() -> None:
    """gRPC would start a thread for each call otherwise, which costs a third of a small read."""
    with serving(history(rows=bars(100))) as target, markethistory.connect(target) as client:
        before = {thread.name for thread in threading.enumerate()}
        with client.read_batches(SERIES, START, END) as stream:
            next(stream)
            started = {thread.name for thread in threading.enumerate()} - before
    assert all("ThreadPoolExecutor" in name for name in started), "the scripted server's own"


def test_the_warning_points_at_the_callers_line() -> None:
    fake = history(complete=False)
    with serving(fake) as target, markethistory.connect(target) as client, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        client.read(SERIES, START, END)
        list(client.read_batches(SERIES, START, END))
    assert [warning.filename for warning in seen] == [__file__, __file__]


async def test_the_warning_of_the_aio_client_points_at_the_callers_line() -> None:
    with serving(history(complete=False)) as target, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with markethistory.aio.connect(target) as client:
            await client.read(SERIES, START, END)
            async for _ in client.read_batches(SERIES, START, END):
                pass
    assert [warning.filename for warning in seen] == [__file__, __file__]


@faces
def test_incompleteness_that_is_refused_raises_incomplete(call: Face) -> None:
    info = error_info("INCOMPLETE", series=SERIES, first_gap="a/b")
    fake = history((3, Break(grpc.StatusCode.FAILED_PRECONDITION, "not complete", info)))
    with serving(fake) as target, pytest.raises(Incomplete) as caught:
        call(target, "read", SERIES, START, END, require_complete=True)
    assert caught.value.metadata["first_gap"] == "a/b"


@faces
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda m: m[0].ClearField("range"), "does not state the range"),
        (lambda m: setattr(m[-1].summary, "row_count", 999), "sent 1000 rows and counted 999"),
        (lambda m: m[5].last_key.CopyFrom(m[2].last_key), "do not follow"),
        (lambda m: m.pop(4), "sent 900 rows and counted 1000"),
    ],
    ids=["no range", "another sum", "a key that goes back", "a message lost"],
)
def test_a_stream_that_does_not_fit_together_raises(
    call: Face, spoil: Callable[[list[pb.ReadRangeResponse]], object], what: str
) -> None:
    def read(request: pb.ReadRangeRequest) -> list[Any]:
        messages = frames(ROWS, request)
        spoil(messages)
        return messages

    with serving(FakeHistory({"ReadRange": read})) as target, pytest.raises(ServerError, match=what):
        call(target, "read", SERIES, START, END)


@faces
@pytest.mark.parametrize("chunk", [100, 1000], ids=["its last row is behind", "its first row is behind"])
def test_a_resumed_stream_that_begins_again_raises_instead_of_doubling(call: Face, chunk: int) -> None:
    """A server that does not know `resume_after` sends all rows once more."""

    def read(request: pb.ReadRangeRequest) -> list[Any]:
        if not request.HasField("resume_after"):
            return [*frames(ROWS, request)[:3], Break(grpc.StatusCode.UNAVAILABLE)]
        return frames(ROWS, pb.ReadRangeRequest(range=request.range), chunk=chunk)

    with serving(FakeHistory({"ReadRange": read})) as target, pytest.raises(ServerError, match="do not follow"):
        call(target, "read", SERIES, START, END)


@faces
def test_a_server_that_is_not_there_is_unavailable_soon(call: Face) -> None:
    with pytest.raises(Unavailable) as caught:
        call("127.0.0.1:1", "read", SERIES, START, END)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.reason == ""


@faces
@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"colums": ["ts"]}, TypeError),
        ({"columns": "ts"}, TypeError),
        ({"compression": "gzip"}, ValueError),
        ({"end": datetime(2023, 1, 1, tzinfo=UTC)}, ValueError),
        ({"end": START}, ValueError),
        ({"end": datetime(2025, 1, 1)}, ValueError),  # noqa: DTZ001
    ],
    ids=["misspelt", "string columns", "no such compression", "end before start", "end is start", "naive"],
)
def test_arguments_that_cannot_be_right_are_refused_before_anything_is_sent(
    call: Face, kwargs: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        call("127.0.0.1:1", "read", SERIES, START, **kwargs)
