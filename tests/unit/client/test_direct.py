"""Reads over connections of our own, against servers that say every frame that HTTP/2 has, and some that it has not."""

from __future__ import annotations

import base64
import struct
import threading
from typing import TYPE_CHECKING

import grpc
import pyarrow as pa
import pytest
from google.rpc.status_pb2 import Status

import markethistory
from markethistory import (
    IncompleteStream,
    MarketHistoryError,
    NotFound,
    RateLimited,
    ServerError,
    TimedOut,
    Unavailable,
)
from markethistory.direct import DirectChannel, _units
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import MINUTE, SERIES, START, FakeHistory, bars, error_info, frames, last_answer, serving
from tests.unit.client.h2_server import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    OK_HEADERS,
    OK_TRAILERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    Request,
    frame,
    message,
    scripted,
)
from tests.unit.client.peers import IMPATIENT

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = bars(1000)
END = START + 1000 * MINUTE
TABLE = pa.Table.from_batches([ROWS])
END_ALL = END_HEADERS | END_STREAM
ONCE = markethistory.RetryPolicy(attempts=1)


def contents(request: Request) -> list[bytes]:
    """The messages of a whole read, as they are on the wire."""
    return [one.SerializeToString() for one in frames(ROWS, pb.ReadRangeRequest.FromString(request.body))]


def whole(peer: Peer) -> None:
    """Answers every read of a connection as it should be."""
    while True:
        request = peer.request()
        peer.answer(request, *contents(request))


def read(target: str, retry: markethistory.RetryPolicy = IMPATIENT, timeout: float | None = None) -> pa.Table:
    with markethistory.connect(target, retry=retry) as history:
        return history.read(SERIES, START, END, timeout=timeout)


def test_a_read_asks_as_grpc_asks() -> None:
    asked: list[Request] = []

    def script(peer: Peer) -> None:
        asked.append(peer.request())
        peer.answer(asked[0], *contents(asked[0]))

    with scripted(script) as target:
        assert read(target, timeout=20).equals(TABLE)
    [request] = asked
    assert request.stream == 1
    assert 19_000 < int(request.fields.pop("grpc-timeout").removesuffix("m")) <= 20_000
    assert request.fields == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/markethistory.v1.HistoryService/ReadRange",
        ":authority": target,
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "markethistory-python",
    }


@pytest.mark.parametrize("size", [1, 3, 7, 4096, 16_383, 70_000])
def test_messages_may_be_cut_anywhere(size: int) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        data = b"".join(map(message, contents(request)))
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        peer.send(peer.headers(request.stream, OK_HEADERS))
        peer.send(*(frame(DATA, piece, 0, request.stream) for piece in pieces))
        peer.send(peer.headers(request.stream, OK_TRAILERS, END_ALL))

    with scripted(script) as target:
        assert read(target).equals(TABLE)


def test_what_http2_allows_between_and_inside_is_understood() -> None:
    """Padding, priorities, continued headers, settings, pings, windows, frames of kinds that nobody knows."""

    def script(peer: Peer) -> None:
        request = peer.request()
        stream = request.stream
        block = peer.encoder.encode([*OK_HEADERS, ("note", "x" * 40_000)])
        peer.send(
            frame(HEADERS, b"\x03" + b"\0\0\0\0\x10" + block[:100] + b"\0\0\0", PADDED | PRIORITY, stream),
            frame(CONTINUATION, block[100:20_000], 0, stream),
            frame(CONTINUATION, block[20_000:], END_HEADERS, stream),
        )
        for content in contents(request):
            peer.send(
                frame(SETTINGS, struct.pack(">HL", 4, 1 << 20)),
                frame(PING, b"12345678"),
                frame(WINDOW_UPDATE, struct.pack(">L", 1000), 0, stream),
                frame(0xEE, b"?" * 50_000, 0xFF, stream),
                frame(DATA, b"", 0, stream),
                frame(DATA, b"\x05" + message(content)[:9] + b"\0" * 5, PADDED, stream),
                frame(DATA, b"\0" + message(content)[9:], PADDED, stream),
                frame(DATA, b"\xff" + b"\0" * 255, PADDED, stream),
            )
        peer.send(peer.headers(stream, OK_TRAILERS, END_ALL))
        for _ in range(10):
            assert peer.until(PING, ACK)[3] == b"12345678"

    with scripted(script) as target:
        assert read(target).equals(TABLE)


def test_settings_are_acknowledged() -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(frame(SETTINGS, struct.pack(">HL", 3, 100)))
        assert [peer.until(SETTINGS, ACK)[3] for _ in range(2)] == [b"", b""]
        peer.answer(request, *contents(request))

    with scripted(script) as target:
        assert read(target).equals(TABLE)


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


def cut(peer: Peer, first: Callable[[Peer, Request, list[bytes]], None]) -> None:
    request = peer.request()
    peer.send(peer.headers(request.stream, OK_HEADERS))
    messages = contents(request)
    peer.send(frame(DATA, b"".join(map(message, messages[:3])), 0, request.stream))
    first(peer, request, messages)


BREAKS: dict[str, Callable[[Peer, Request, list[bytes]], None]] = {
    "closed": lambda peer, request, messages: None,
    "cut in a frame's head": lambda peer, request, messages: peer.send(b"\0\0\x05"),
    "cut in a frame": lambda peer, request, messages: peer.send(
        frame(DATA, message(messages[3]), 0, request.stream)[:700]
    ),
    "gone away": lambda peer, request, messages: peer.send(frame(GOAWAY, struct.pack(">LL", 0, 0))),
    "reset": lambda peer, request, messages: peer.send(frame(RST_STREAM, struct.pack(">L", 2), 0, request.stream)),
    "refused": lambda peer, request, messages: peer.send(frame(RST_STREAM, struct.pack(">L", 7), 0, request.stream)),
    "cut in a message": lambda peer, request, messages: peer.send(
        frame(DATA, message(messages[3])[:700], 0, request.stream), peer.headers(request.stream, OK_TRAILERS, END_ALL)
    ),
    "no status": lambda peer, request, messages: peer.send(
        frame(DATA, message(messages[3]), END_STREAM, request.stream)
    ),
}


@pytest.mark.parametrize("how", BREAKS, ids=str)
def test_a_read_that_breaks_is_resumed_on_a_connection_that_works(how: str) -> None:
    with scripted(lambda peer: cut(peer, BREAKS[how]), whole) as target:
        assert read(target).equals(TABLE)


@pytest.mark.parametrize("how", BREAKS, ids=str)
def test_a_read_that_breaks_and_may_not_be_resumed_raises(how: str) -> None:
    with scripted(lambda peer: cut(peer, BREAKS[how])) as target, pytest.raises((Unavailable, ServerError)):
        read(target, ONCE)


NONSENSE: dict[str, Callable[[Peer, Request], bytes]] = {
    "data before headers": lambda peer, request: frame(DATA, message(b"x"), 0, request.stream),
    "a frame of another stream": lambda peer, request: frame(DATA, b"x", 0, request.stream + 2),
    "a promise": lambda peer, request: frame(PUSH_PROMISE, b"\0\0\0\2", END_HEADERS, request.stream),
    "more padding than payload": lambda peer, request: (
        peer.headers(request.stream, OK_HEADERS) + frame(DATA, b"\x09abc", PADDED, request.stream)
    ),
    "padded headers of nothing": lambda peer, request: frame(HEADERS, b"", PADDED | END_HEADERS, request.stream),
    "headers without end": lambda peer, request: (
        frame(HEADERS, b"", 0, request.stream) + frame(CONTINUATION, b"\0" * 60_000, 0, request.stream) * 2
    ),
    "a huge header block": lambda peer, request: frame(HEADERS, b"\0" * 70_000, END_HEADERS, request.stream),
    "headers that are interrupted": lambda peer, request: (
        frame(HEADERS, b"\x88", 0, request.stream) + frame(PING, b"12345678")
    ),
    "headers that are no HPACK": lambda peer, request: frame(HEADERS, b"\xff\xff\xff", END_HEADERS, request.stream),
    "a huge ping": lambda peer, request: frame(PING, b"\0" * 70_000),
    "settings of the wrong size": lambda peer, request: frame(SETTINGS, b"\0\0\0"),
    "a window of the wrong size": lambda peer, request: frame(WINDOW_UPDATE, b"\0"),
    "a going away of the wrong size": lambda peer, request: frame(GOAWAY, b"\0"),
}


@pytest.mark.parametrize("what", NONSENSE, ids=str)
def test_what_is_no_http2_is_an_error_and_never_a_hang(what: str) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(NONSENSE[what](peer, request))
        peer.wait_for_end()

    with scripted(script) as target, pytest.raises(Unavailable):
        read(target, ONCE)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"\x15\x03\x01\0\x02\x02\x46 alert",
        frame(PING, b"12345678"),
    ],
)
def test_a_server_of_another_kind_is_told_at_once(said: bytes) -> None:
    """It waits for more, as the client would."""

    def script(peer: Peer) -> None:
        peer.send(said)
        peer.wait_for_end()

    with scripted(script, greet=False) as target, pytest.raises(Unavailable, match="no HTTP/2 server"):
        read(target, ONCE)


@pytest.mark.parametrize(
    ("head", "says"),
    [(b"\x01\0\0\0\x05", "a compressed message"), (b"\0\xff\xff\xff\xff", "a message of 4294967295 bytes")],
)
def test_a_message_that_is_none_of_ours_is_refused_before_it_is_received(head: bytes, says: str) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(peer.headers(request.stream, OK_HEADERS), frame(DATA, head, 0, request.stream))
        peer.wait_for_end()

    with scripted(script) as target, pytest.raises(ServerError, match=says):
        read(target, ONCE)


@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ([(":status", "503"), ("content-type", "text/html")], Unavailable, "status: 503"),
        ([(":status", "404")], ServerError, "status: 404"),
        ([(":status", "200"), ("content-type", "text/html")], ServerError, "not gRPC"),
        (
            [*OK_HEADERS, ("grpc-status", "8"), ("grpc-message", "too%20much%3A%20%E2%82%AC")],
            RateLimited,
            "too much: €",
        ),
        ([*OK_HEADERS, ("grpc-status", "77")], ServerError, "unknown"),
        (OK_HEADERS, ServerError, "unknown"),
        ([*OK_HEADERS, ("grpc-status", "5"), ("grpc-status-details-bin", "***")], NotFound, "not_found"),
    ],
)
def test_an_answer_without_messages_is_typed(
    fields: list[tuple[str, str]], kind: type[MarketHistoryError], says: str
) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(peer.headers(request.stream, fields, END_ALL))
        peer.wait_for_end()

    with scripted(script) as target, pytest.raises(kind, match=says):
        read(target, ONCE)


@pytest.mark.parametrize("padded", [True, False])
def test_details_come_from_the_trailers(padded: bool) -> None:
    status = Status(code=5, message="no such symbol")
    status.details.add().Pack(error_info("UNKNOWN_SYMBOL", nearest="BTC/USDT"))
    encoded = base64.b64encode(status.SerializeToString()).decode()

    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(peer.headers(request.stream, OK_HEADERS))
        details = ("grpc-status-details-bin", encoded if padded else encoded.rstrip("="))
        peer.send(peer.headers(request.stream, [("grpc-status", "5"), details], END_ALL))

    with scripted(script) as target, pytest.raises(NotFound) as caught:
        read(target)
    assert (caught.value.reason, caught.value.nearest) == ("UNKNOWN_SYMBOL", ["BTC/USDT"])


@pytest.mark.parametrize(
    ("code", "status"),
    [(7, grpc.StatusCode.UNAVAILABLE), (8, grpc.StatusCode.CANCELLED), (11, grpc.StatusCode.RESOURCE_EXHAUSTED),
     (12, grpc.StatusCode.PERMISSION_DENIED), (1, grpc.StatusCode.INTERNAL)],
)  # fmt: skip
def test_a_reset_is_told_as_grpc_tells_it(code: int, status: grpc.StatusCode) -> None:
    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(frame(RST_STREAM, struct.pack(">L", code), 0, request.stream))

    with scripted(script) as target, pytest.raises(MarketHistoryError) as caught:
        read(target, ONCE)
    assert caught.value.code is status


@pytest.mark.parametrize("answered", [True, False])
def test_a_server_that_says_nothing_more_is_left_at_the_deadline(answered: bool) -> None:
    left = threading.Event()

    def script(peer: Peer) -> None:
        request = peer.request()
        if answered:
            peer.send(peer.headers(request.stream, OK_HEADERS), frame(DATA, message(b"x" * 99)[:50], 0, request.stream))
        assert peer.until(RST_STREAM)[2:] == (request.stream, struct.pack(">L", 8))
        left.set()

    with scripted(script) as target, pytest.raises(TimedOut):
        read(target, timeout=0.3)
    assert left.is_set()


def test_windows_are_opened_again_as_rows_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("markethistory.http2._REPLENISH_AT", 20_000)
    opened = {0: 0, 1: 0}
    sent = 0

    def script(peer: Peer) -> None:
        nonlocal sent
        request = peer.request()
        peer.send(peer.headers(request.stream, OK_HEADERS))
        for content in contents(request):
            sent += len(message(content)) + 1
            peer.send(frame(DATA, b"\0" + message(content), PADDED, request.stream))
        peer.send(peer.headers(request.stream, OK_TRAILERS, END_ALL))
        peer.wait_for_end()
        for kind, _, stream, payload in peer.seen:
            if kind == WINDOW_UPDATE:
                opened[stream] += int.from_bytes(payload, "big")

    with scripted(script) as target:
        assert read(target).equals(TABLE)
    opened[0] -= 2**31 - 1 - 65_535  # the greeting
    assert sent - 20_000 < opened[0] <= sent
    assert opened[1] == opened[0]


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


def test_a_stream_that_is_left_is_reset() -> None:
    left = threading.Event()

    def script(peer: Peer) -> None:
        request = peer.request()
        peer.send(peer.headers(request.stream, OK_HEADERS))
        peer.send(frame(DATA, message(contents(request)[0]), 0, request.stream))
        assert peer.until(RST_STREAM)[2:] == (request.stream, struct.pack(">L", 8))
        left.set()

    with scripted(script) as target, markethistory.connect(target) as history:
        with history.read_batches(SERIES, START, END) as stream:
            assert next(stream).num_rows == 100
        assert left.wait(10)


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


def test_a_stream_of_no_messages_is_broken() -> None:
    with scripted(lambda peer: peer.answer(peer.request())) as target, pytest.raises(IncompleteStream):
        read(target, ONCE)


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
