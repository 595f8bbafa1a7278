"""Reads over connections of our own, against servers that say every frame that HTTP/2 has, and some that it has not."""

from __future__ import annotations

import base64
import struct
import threading
from typing import TYPE_CHECKING

import grpc
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
from tests.fake_history import SERIES, START, error_info
from tests.unit.client.direct_reads import END, ONCE, TABLE, contents, read, whole
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

if TYPE_CHECKING:
    from collections.abc import Callable

END_ALL = END_HEADERS | END_STREAM


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


def test_a_token_goes_with_each_call() -> None:
    asked: list[Request] = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            asked.append(peer.request())
            peer.answer(asked[-1], *contents(asked[-1]))

    with scripted(script) as target, markethistory.connect(target, token="t0" * 99, retry=ONCE) as history:
        for _ in range(2):
            assert history.read(SERIES, START, END).equals(TABLE)
    assert [request.fields["authorization"] for request in asked] == ["Bearer " + "t0" * 99] * 2


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


def test_a_stream_of_no_messages_is_broken() -> None:
    with scripted(lambda peer: peer.answer(peer.request())) as target, pytest.raises(IncompleteStream):
        read(target, ONCE)
