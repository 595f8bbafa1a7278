"""gRPC calls over connections of our own, for reads alone: several times cheaper than through a channel of gRPC.

Theory of operation. A channel of gRPC copies every message twice and lets the kernel clear fresh memory for each. Here
a call has an HTTP/2 connection for itself (http2.py), and its messages are received where they stay. Connections are
kept for the next call; calls of several threads each have their own.

What a call raises is a grpc.RpcError with the code, the details and the trailing metadata that gRPC's own client would
give, so that nothing above knows which of the two has read.
Promises: a call that is left early ends at the server. Never does: retry, or speak anything but plain HTTP/2; what
needs more (a proxy, a name that gRPC has to resolve) is for a channel.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import unquote

import grpc
import pyarrow as pa

from markethistory.http2 import DATA, HEADERS, Broken, Connection, header_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from markethistory.channels import Metadata

_TARGET: Final = re.compile(r"(?:dns:///|ipv4:)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables by which gRPC finds a proxy."""
_CONNECT_S: Final = 20.0
_MOST_MESSAGE: Final = 64 * 2**20
"""Bytes of a message; the server sends at most 3 MiB, or one row."""
_MOST_REQUEST: Final = 65_535
_PREFIX_BYTES: Final = 5
_MOST_TIMEOUT: Final = 99_999_999
_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
_BY_HTTP_STATUS: Final[Mapping[bytes, grpc.StatusCode]] = {
    b"400": grpc.StatusCode.INTERNAL,
    b"401": grpc.StatusCode.UNAUTHENTICATED,
    b"403": grpc.StatusCode.PERMISSION_DENIED,
    b"404": grpc.StatusCode.UNIMPLEMENTED,
    b"429": grpc.StatusCode.UNAVAILABLE,
    b"502": grpc.StatusCode.UNAVAILABLE,
    b"503": grpc.StatusCode.UNAVAILABLE,
    b"504": grpc.StatusCode.UNAVAILABLE,
}
"""What gRPC says an answer means that is not gRPC's."""
_BY_RESET: Final[Mapping[int, grpc.StatusCode]] = {
    0x7: grpc.StatusCode.UNAVAILABLE,
    0x8: grpc.StatusCode.CANCELLED,
    0xB: grpc.StatusCode.RESOURCE_EXHAUSTED,
    0xC: grpc.StatusCode.PERMISSION_DENIED,
}


class CallFailed(grpc.RpcError):
    """A call that did not end well, as gRPC tells it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        """Its status."""
        return self._code

    def details(self) -> str:
        """What the server said, or what went wrong on the way."""
        return self._details

    def trailing_metadata(self) -> Any:
        """The metadata that came with the status; values of `-bin` keys are bytes."""
        return self._trailers


class DirectChannel:
    """Connections to one server; opened when they are needed. May be used by several threads."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self.authority: Final = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._idle: list[Connection] = []
        self._active: set[Connection] = set()
        self._closed = False
        self._process = os.getpid()

    @classmethod
    def to(cls, target: str) -> Self | None:
        """A channel to a target as gRPC takes it; None if only gRPC knows how to reach it."""
        matched = _TARGET.fullmatch(target)
        if matched is None or any(os.environ.get(name) for name in _PROXIES):
            return None
        return cls(matched["host"].strip("[]"), int(matched["port"]))

    def close(self) -> None:
        """Closes all connections; calls under way fail."""
        self._closed = True
        for connection in list(self._active):
            connection.abort()
        while self._idle:
            self._idle.pop().close()

    def method(self, path: str, metadata: Metadata | None) -> DirectMethod:
        """A method of the server, by its path; the metadata goes with each call."""
        return DirectMethod(self, path, metadata or ())

    def take(self, size: int, deadline: float | None) -> Connection:
        """A connection on which a request of so many bytes can be sent. Raises OSError if there is none to be had."""
        if self._closed:
            raise ValueError("the client is closed")
        if self._process != os.getpid():  # a forked child must not use its parent's connections
            self._idle, self._active, self._process = [], set(), os.getpid()
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.is_idle() and connection.fits(size):
                    self._active.add(connection)
                    return connection
                connection.close()
        patience = _CONNECT_S if deadline is None else min(_CONNECT_S, deadline - time.monotonic())
        sock = socket.create_connection(self._address, max(patience, 0.001))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = Connection(sock)
        self._active.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """The call on it ended, and it may serve another one."""
        self._active.discard(connection)
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """The call on it did not end, so nothing more can be done with it."""
        self._active.discard(connection)
        connection.close()

    @property
    def closed(self) -> bool:
        """Whether its owner has closed it."""
        return self._closed


class DirectMethod:
    """A method that answers with messages; called as gRPC's multi-callables are."""

    def __init__(self, channel: DirectChannel, path: str, metadata: Metadata) -> None:
        self._channel = channel
        self._fields = header_fields(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", channel.authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "markethistory-python"),
                *metadata,
            ]
        )

    def __call__(self, request: Message, *, timeout: float | None = None) -> DirectCall:
        """Begins a call; what goes wrong is raised when its messages are taken."""
        deadline = None if timeout is None else time.monotonic() + timeout
        fields = self._fields if timeout is None else self._fields + header_fields([("grpc-timeout", _units(timeout))])
        return DirectCall(self._channel, fields, request.SerializeToString(), deadline)

    @staticmethod
    def carries(request: Message) -> bool:
        """Whether the request is small enough to be sent without waiting for the server."""
        return request.ByteSize() + _PREFIX_BYTES <= _MOST_REQUEST


class DirectCall:
    """The messages of a call, in order, each in memory of its own. An iterator that raises CallFailed."""

    def __init__(self, channel: DirectChannel, fields: bytes, request: bytes, deadline: float | None) -> None:
        self._channel = channel
        self._fields = fields
        self._body = b"\x00" + len(request).to_bytes(4, "big") + request
        self._deadline = deadline
        self._connection: Connection | None = None
        self._left = 0
        self._answered = self._cut = self._over = self._stopped = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> memoryview:
        if self._over:
            raise StopIteration
        try:
            message = self._next()
        except CallFailed:
            self.cancel()
            raise
        except TimeoutError:
            self.cancel()
            raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        except OSError as lost:
            self.cancel()
            self._fail(lost)
        except BaseException:
            self.cancel()
            raise
        if message is None:
            raise StopIteration
        return message

    def cancel(self) -> None:
        """Ends the call if it is not over."""
        self._over = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.reset()
            self._channel.drop(connection)

    def stop(self) -> None:
        """Makes the thread that takes messages fail; the one thing that another thread may do."""
        self._stopped = True
        connection = self._connection
        if connection is not None:
            connection.abort()

    def _next(self) -> memoryview | None:
        """The next message; None if all have come and the call ended well."""
        if self._connection is None:
            self._connection = self._channel.take(len(self._body), self._deadline)
            self._connection.request(self._fields, self._body, self._deadline)
            if self._stopped:  # before there was a connection to abort
                raise Broken("the call was stopped")
        prefix = bytearray(_PREFIX_BYTES)
        if not self._fill(self._connection, memoryview(prefix)):
            return None
        size = int.from_bytes(prefix[1:], "big")
        if prefix[0] or size > _MOST_MESSAGE:
            what = "a compressed message" if prefix[0] else f"a message of {size} bytes"
            raise CallFailed(grpc.StatusCode.INTERNAL, f"the server sent {what}")
        message = memoryview(pa.allocate_buffer(size)).cast("B")
        if not self._fill(self._connection, message):
            raise CallFailed(grpc.StatusCode.INTERNAL, "the server cut a message short")
        return message

    def _fill(self, connection: Connection, target: memoryview) -> bool:
        """Fills the memory from DATA frames; False if the call ended instead, before the first byte."""
        filled = 0
        while filled < len(target):
            if not self._left:
                if self._advance(connection):
                    continue
                if filled:
                    raise CallFailed(grpc.StatusCode.INTERNAL, "the server cut a message short")
                return False
            count = connection.read(target[filled:])
            self._left -= count
            filled += count
        return True

    def _advance(self, connection: Connection) -> bool:
        """Goes on to the next frame; False if that ended the call well. Raises CallFailed if it ended it otherwise."""
        if self._cut:
            raise CallFailed(grpc.StatusCode.INTERNAL, "the server ended the call without a status")
        frame = connection.next_frame()
        if frame.kind == DATA:
            if not self._answered:
                raise Broken("data before any headers")
            self._left, self._cut = frame.size, frame.ends
            return True
        if frame.kind != HEADERS:
            reset = int.from_bytes(frame.payload[:4], "big")
            code = _BY_RESET.get(reset, grpc.StatusCode.INTERNAL)
            raise CallFailed(code, f"Received RST_STREAM with error code {reset}")
        fields = connection.headers(frame)
        if not self._answered:
            _check_answer(dict(fields))
        self._answered = True
        if frame.ends:
            self._end(connection, fields)
        return not frame.ends

    def _end(self, connection: Connection, fields: list[tuple[bytes, bytes]]) -> None:
        """The server has said how the call ended: the connection is free. Raises CallFailed if it did not end well."""
        self._over, self._connection = True, None
        self._channel.give_back(connection)
        told = dict(fields)
        status = told.get(b"grpc-status", b"")
        if status == b"0":
            return
        code = _CODES.get(int(status), grpc.StatusCode.UNKNOWN) if status.isdigit() else grpc.StatusCode.UNKNOWN
        details = unquote(told.get(b"grpc-message", b"").decode("ascii", "replace"))
        raise CallFailed(code, details, tuple(_metadata(name, value) for name, value in fields))

    def _fail(self, lost: OSError) -> NoReturn:
        if self._channel.closed:
            raise CallFailed(grpc.StatusCode.CANCELLED, "the client was closed") from lost
        raise CallFailed(grpc.StatusCode.UNAVAILABLE, f"{self._channel.authority}: {lost}") from lost


def _check_answer(fields: Mapping[bytes, bytes]) -> None:
    """Raises CallFailed for an answer that is not gRPC's, of a proxy or a web server."""
    status = fields.get(b":status", b"")
    if status != b"200":
        code = _BY_HTTP_STATUS.get(status, grpc.StatusCode.UNKNOWN)
        raise CallFailed(code, f"Received http2 header with status: {status.decode('ascii', 'replace')}")
    if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        raise CallFailed(grpc.StatusCode.UNKNOWN, "the answer is not gRPC's")


def _metadata(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    """A field as metadata; what a `-bin` field holds in base64, which may lack its padding, is bytes."""
    key = name.decode("ascii", "replace")
    if not key.endswith("-bin"):
        return key, value.decode("ascii", "replace")
    try:
        return key, base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return key, b""


def _units(seconds: float) -> str:
    """A timeout as gRPC writes it: at most eight digits and a unit."""
    millis = math.ceil(seconds * 1000)
    return f"{max(1, millis)}m" if millis <= _MOST_TIMEOUT else f"{min(math.ceil(seconds), _MOST_TIMEOUT)}S"
