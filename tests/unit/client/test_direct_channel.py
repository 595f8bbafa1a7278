"""Connections of the sync client: when one is made, used again and left, and what is left to gRPC to reach."""

from __future__ import annotations

import struct
import threading

import grpc
import pyarrow as pa
import pytest

import markethistory
from markethistory import (
    MarketHistoryError,
    ServerError,
)
from markethistory.direct import DirectChannel, _units
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import SERIES, START, FakeHistory, frames, last_answer, serving
from tests.unit.client.direct_reads import END, ONCE, ROWS, TABLE, contents, whole
from tests.unit.client.h2_server import (
    GOAWAY,
    PING,
    Peer,
    frame,
    scripted,
)


def test_one_connection_serves_call_after_call() -> None:
    with scripted(whole) as target, markethistory.connect(target) as history:
        for _ in range(3):
            assert history.read(SERIES, START, END).equals(TABLE)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    closed = threading.Event()

    def once(peer: Peer) -> None:
        request = peer.request()
        peer.answer(request, *contents(request))
        peer.send(frame(PING, b"12345678"), frame(GOAWAY, struct.pack(">LL", 1, 0)))
        peer.sock.shutdown(1)
        closed.set()

    with scripted(once, whole) as target, markethistory.connect(target, retry=ONCE) as history:
        assert history.read(SERIES, START, END).equals(TABLE)
        assert closed.wait(10)
        assert history.read(SERIES, START, END).equals(TABLE)


def test_calls_of_two_threads_have_a_connection_each() -> None:
    both = threading.Barrier(2, timeout=30)
    fake = FakeHistory({"ReadRange": lambda request: (both.wait(), *frames(ROWS, request))[1:]})
    found: list[pa.Table] = []
    with serving(fake) as target, markethistory.connect(target, retry=ONCE) as history:
        threads = [threading.Thread(target=lambda: found.append(history.read(SERIES, START, END))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert [table.equals(TABLE) for table in found] == [True, True]


def test_a_client_that_is_closed_ends_the_call_of_another_thread() -> None:
    asked = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        asked.set()
        peer.wait_for_end()

    with scripted(script) as target:
        history = markethistory.connect(target, retry=ONCE)
        raised: list[Exception] = []

        def call() -> None:
            try:
                history.read(SERIES, START, END)
            except MarketHistoryError as error:
                raised.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert asked.wait(10)
        history.close()
        thread.join(10)
    assert [error.code for error in raised if isinstance(error, MarketHistoryError)] == [grpc.StatusCode.CANCELLED]


def test_a_few_last_rows_come_over_the_same_connection() -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        assert request.fields[":path"].endswith("/ReadLast")
        answer = last_answer(ROWS, pb.ReadLastRequest.FromString(request.body))
        peer.answer(request, answer.SerializeToString())
        whole(peer)

    with scripted(script) as target, markethistory.connect(target, retry=ONCE) as history:
        assert history.last(SERIES, 5, end=END).equals(pa.Table.from_batches([ROWS.slice(995)]))
        assert history.read(SERIES, START, END).equals(TABLE)


@pytest.mark.parametrize("count", [0, 2])
def test_other_than_one_answer_to_a_few_last_rows_is_refused(count: int) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.request(), *[b""] * count)

    with (
        scripted(script) as target,
        markethistory.connect(target, retry=ONCE) as history,
        pytest.raises(ServerError, match=f"{count} answers instead of one"),
    ):
        history.last(SERIES, 5, end=END)


def test_a_request_that_needs_the_servers_leave_goes_through_grpc() -> None:
    """Larger than what may be sent at once; the scripted server of gRPC sees it as any other."""
    fake = FakeHistory({"ReadRange": lambda request: frames(ROWS, pb.ReadRangeRequest(range=request.range))})
    columns = [f"column_{number}" for number in range(10_000)]
    with serving(fake) as target, markethistory.connect(target) as history:
        assert history.read(SERIES, START, END, columns=columns).equals(TABLE)
    assert len(fake.requests[0].columns) == 10_000


def test_a_forked_child_does_not_use_its_parents_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHistory({"ReadRange": lambda request: frames(ROWS, request)})
    with serving(fake) as target, markethistory.connect(target, retry=ONCE) as history:
        assert history.read(SERIES, START, END).equals(TABLE)
        direct = history._reads._direct
        assert direct is not None
        [before] = direct._idle
        monkeypatch.setattr("os.getpid", lambda: -1)
        assert history.read(SERIES, START, END).equals(TABLE)
        assert before not in direct._idle
        before.close()


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        ("localhost:50051", "localhost:50051"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("[::1]:50051", "[::1]:50051"),
        ("dns:///history.example:443", "history.example:443"),
        ("ipv4:127.0.0.1:50051", "127.0.0.1:50051"),
        ("localhost", None),
        ("unix:/run/history.sock", None),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", None),
        ("dns://8.8.8.8/history.example:443", None),
        ("xds:///history", None),
    ],
)
def test_only_plain_targets_are_reached_directly(target: str, authority: str | None) -> None:
    channel = DirectChannel.to(target)
    assert (channel and channel.authority) == authority


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_is_left_to_grpc(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    assert DirectChannel.to("localhost:50051") is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0001, "1m"), (1.0, "1000m"), (99_999.999, "99999999m"), (100_000.0, "100000S"), (1e12, "99999999S")],
)
def test_a_timeout_has_at_most_eight_digits(seconds: float, told: str) -> None:
    assert _units(seconds) == told


def test_a_server_that_goes_away_finishes_what_it_has_begun() -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(frame(GOAWAY, struct.pack(">LL", 2**31 - 1, 0)))
        peer.send(frame(GOAWAY, struct.pack(">LL", request.stream, 0) + b"bye"))
        peer.answer(request, *contents(request))
        peer.wait_for_end()

    with scripted(script, whole) as target, markethistory.connect(target, retry=ONCE) as history:
        assert history.read(SERIES, START, END).equals(TABLE)
        assert history.read(SERIES, START, END).equals(TABLE)
