"""A few last rows, which both clients ask for by ReadLast: one call, one answer, the same table as from a stream."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pytest

from markethistory import Incomplete, IncompleteHistoryWarning, NotFound, ServerError, Unavailable
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.coverage_pb2 import COVERAGE_STATE_UNREACHABLE, CoverageSpan
from tests.fake_history import (
    MINUTE,
    SERIES,
    START,
    Break,
    FakeHistory,
    bars,
    error_info,
    frames,
    last_answer,
    serving,
    stamp,
    window,
)
from tests.unit.client.peers import Face, aio_face, channel_face, sync_face

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = bars(1000)
END = START + 1000 * MINUTE
HOLE = CoverageSpan(range=window(START, START + MINUTE), state=COVERAGE_STATE_UNREACHABLE, reason="too deep")
faces = pytest.mark.parametrize("call", [sync_face, channel_face, aio_face], ids=["sync", "channel", "aio"])


def history(*breaks: Break, **how: Any) -> FakeHistory:
    """A server whose n-th ReadLast ends as `breaks[n]` says; later ones are answered. ReadRange always is."""
    left = list(breaks)

    def last(request: pb.ReadLastRequest) -> list[Any]:
        return [left.pop(0)] if left else [last_answer(ROWS, request, **how)]

    return FakeHistory({"ReadLast": last, "ReadRange": lambda request: frames(ROWS, request, **how)})


@faces
def test_a_few_last_rows_are_one_call_that_says_all_that_was_asked(call: Face) -> None:
    fake = history()
    with serving(fake) as target:
        table = call(target, "last", SERIES, 250, end=END, columns=["close"], ensure=False, require_complete=True)
    assert table.equals(pa.Table.from_batches([ROWS.slice(750)]).select(["ts", "close"]))
    asked = pb.ReadLastRequest(series=SERIES, count=250, end=stamp(END), columns=["close"], require_complete=True)
    assert fake.requests == [asked]


@faces
def test_an_absent_end_stays_absent_and_ensure_is_the_default(call: Face) -> None:
    fake = history()
    with serving(fake) as target:
        call(target, "last", SERIES, 3)
    assert fake.requests == [pb.ReadLastRequest(series=SERIES, count=3, ensure=True)]


@faces
@pytest.mark.parametrize(
    ("count", "kind"), [(1, pb.ReadLastRequest), (1000, pb.ReadLastRequest), (1001, pb.ReadRangeRequest)]
)
def test_more_than_a_thousand_rows_are_streamed(call: Face, count: int, kind: type) -> None:
    fake = history()
    with serving(fake) as target:
        assert call(target, "last", SERIES, count, end=END).num_rows == min(count, 1000)
    assert [type(request) for request in fake.requests] == [kind]


@faces
def test_compressed_rows_are_streamed(call: Face) -> None:
    """ReadLast knows no compression, and what was asked for is not dropped silently."""
    fake = history()
    with serving(fake) as target:
        call(target, "last", SERIES, 5, compression="lz4")
    assert [request.compression for request in fake.requests] == [pb.COMPRESSION_LZ4]


@faces
def test_the_table_and_its_metadata_are_those_of_a_stream(call: Face) -> None:
    with serving(history(uncovered=[HOLE], complete=True)) as target:
        by_call = call(target, "last", SERIES, 250, end=END)
        by_stream = call(target, "last", SERIES, 250, end=END, compression="lz4")
    assert by_call.equals(by_stream)
    assert by_call.schema.metadata == by_stream.schema.metadata
    told = json.loads(by_call.schema.metadata[b"markethistory"])
    assert (told["row_count"], told["complete"]) == (250, True)
    assert told["uncovered"][0]["reason"] == "too deep"


@faces
def test_no_rows_at_all_are_an_empty_table(call: Face) -> None:
    rows = ROWS.slice(0, 0)
    fake = FakeHistory({"ReadLast": lambda request: [last_answer(rows, request)]})
    with serving(fake) as target:
        assert call(target, "last", SERIES, 5).equals(pa.Table.from_batches([rows]))


@faces
def test_what_is_missing_is_warned_of_where_the_caller_stands(call: Face) -> None:
    with (
        serving(history(uncovered=[HOLE], complete=False)) as target,
        pytest.warns(IncompleteHistoryWarning, match="too deep") as caught,
    ):
        call(target, "last", SERIES, 5)
    assert len(caught) == 1
    if call is not aio_face:
        assert caught[0].filename.endswith("peers.py")


@faces
@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED],
)
def test_a_call_that_breaks_is_made_again(call: Face, code: grpc.StatusCode) -> None:
    fake = history(Break(code))
    with serving(fake) as target:
        table = call(target, "last", SERIES, 250)
    assert table.equals(pa.Table.from_batches([ROWS.slice(750)]))
    assert [request.count for request in fake.requests] == [250, 250]


@faces
def test_a_server_that_never_answers_is_given_up_after_two_calls(call: Face) -> None:
    fake = history(*[Break(grpc.StatusCode.UNAVAILABLE)] * 9)
    with serving(fake) as target, pytest.raises(Unavailable):
        call(target, "last", SERIES, 5)
    assert len(fake.requests) == 2


@faces
@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SYMBOL", NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, "INCOMPLETE", Incomplete),
    ],
)
def test_what_the_server_refuses_is_typed_and_not_asked_again(
    call: Face, code: grpc.StatusCode, reason: str, kind: type[Exception]
) -> None:
    fake = history(Break(code, info=error_info(reason)))
    with serving(fake) as target, pytest.raises(kind):
        call(target, "last", SERIES, 5)
    assert len(fake.requests) == 1


@faces
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda answer: answer.ClearField("summary"), "lacks"),
        (lambda answer: answer.ClearField("range"), "lacks"),
        (lambda answer: answer.ClearField("arrow_ipc"), "cannot be read"),
        (lambda answer: setattr(answer, "row_count", 4), "counted 4 and 5"),
        (lambda answer: setattr(answer.summary, "row_count", 6), "counted 5 and 6"),
        (lambda answer: setattr(answer, "arrow_ipc", answer.arrow_ipc[:-100]), "cannot be read"),
    ],
)
def test_an_answer_that_the_contract_does_not_know_is_refused(
    call: Face, spoil: Callable[[pb.ReadLastResponse], None], says: str
) -> None:
    def last(request: pb.ReadLastRequest) -> list[pb.ReadLastResponse]:
        answer = last_answer(ROWS, request)
        spoil(answer)
        return [answer]

    with serving(FakeHistory({"ReadLast": last})) as target, pytest.raises(ServerError, match=says):
        call(target, "last", SERIES, 5)


@faces
def test_an_option_that_there_is_not_is_refused_before_anything_is_sent(call: Face) -> None:
    with pytest.raises(TypeError, match="no option compresion"):
        call("127.0.0.1:1", "last", SERIES, 5, compresion="lz4")
    with pytest.raises(TypeError, match="columns"):
        call("127.0.0.1:1", "last", SERIES, 5, columns="close")


def test_warnings_of_incomplete_rows_can_be_errors() -> None:
    with serving(history(uncovered=[HOLE], complete=False)) as target, warnings.catch_warnings():
        warnings.simplefilter("error", IncompleteHistoryWarning)
        with pytest.raises(IncompleteHistoryWarning):
            sync_face(target, "last", SERIES, 5)
