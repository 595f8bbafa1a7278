"""One HTTP/2 connection that carries one gRPC call at a time, read by the thread that waits for it.

Theory of operation. A library for all of HTTP/2 brings bytes through several buffers of its own before they are rows.
Here a connection is used for one call after the other, so whoever waits for the call reads the socket: frames of the
connection (settings, pings, going away) are dealt with on the way, and the payload of a DATA frame goes from the socket
straight into the memory that the caller gives. We allow frames of 16 MiB and windows of 2 GiB, so that nothing is cut
up or waits for us; what a reader does not take stays in the socket, and TCP holds the server.

Promises: what does not keep to HTTP/2 raises Broken; nothing is kept of a size that the other side chooses, but for a
header block of at most 64 KiB. Never does: know gRPC's messages and statuses (direct.py does), or retry.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hpack import Decoder, HPACKError

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
CANCEL: Final = 0x8
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = struct.Struct(">HBBBL")
_HEAD_BYTES: Final = 9
_SETTING: Final = struct.Struct(">HL")
_ENABLE_PUSH, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEADERS = 2, 4, 5, 6
_LARGEST_WINDOW: Final = 2**31 - 1
_LARGEST_FRAME: Final = 2**24 - 1
_FIRST_WINDOW: Final = 65_535
"""What may be sent in either direction before the other side has said anything."""
_SENT_FRAME: Final = 16_384
"""The largest frame that may be sent to a server that has not said that it takes larger ones."""
_MOST_HEADERS: Final = 65_536
_REPLENISH_AT: Final = 2**29
"""Once so many bytes were read, the server is told that it may send as many again."""
_STAGE_BYTES: Final = 16_384
_IDLE_S: Final = 1.0
"""How long a frame that has begun to come may take, where nobody waits for an answer."""
_WAIT_FOR_ALL: Final = getattr(socket, "MSG_WAITALL", 0)
_MOST_STREAM: Final = 2**30


class Broken(OSError):
    """The connection is lost, or the other side does not keep to HTTP/2."""


class GoneAway(Broken):
    """The server is going away and has not begun the call."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The head of a frame of the call. Of DATA the payload is still to be read, `size` bytes of it."""

    kind: int
    flags: int
    size: int
    payload: bytes = b""

    @property
    def ends(self) -> bool:
        """Whether the server sends no more."""
        return bool(self.flags & END_STREAM) and self.kind in (DATA, HEADERS)


class Connection:
    """An HTTP/2 connection over a connected socket, which it owns. Not for two threads at once, but for `abort`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stage = memoryview(bytearray(_STAGE_BYTES))
        self._start = self._end = 0
        self._decoder = Decoder()
        self._stream = -1
        self._ended = True
        self._window = self._new_window = _FIRST_WINDOW
        self._unread = self._padding = 0
        self._read_bytes = self._read_of_stream = 0
        self._met = self._going_away = False
        self._deadline: float | None = None
        settings = ((_ENABLE_PUSH, 0), (_INITIAL_WINDOW, _LARGEST_WINDOW), (_MAX_FRAME, _LARGEST_FRAME))
        payload = b"".join(_SETTING.pack(*one) for one in (*settings, (_MAX_HEADERS, _MOST_HEADERS)))
        widening = struct.pack(">L", _LARGEST_WINDOW - _FIRST_WINDOW)
        # Sent with the first request.
        self._greeting = _PREFACE + _frame(SETTINGS, 0, 0, payload) + _frame(WINDOW_UPDATE, 0, 0, widening)

    def close(self) -> None:
        """Closes the socket; a call that is under way ends at the server."""
        self._sock.close()

    def abort(self) -> None:
        """Makes whoever reads or writes fail; from another thread too."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def is_idle(self) -> bool:
        """Whether another call can be made: the last one ended well, and the server is still there."""
        if not self._ended or self._unread or self._going_away or self._stream > _MOST_STREAM:
            return False
        self._deadline = time.monotonic() + _IDLE_S
        try:
            while self._start < self._end or select.select([self._sock], [], [], 0)[0]:
                self._connection_frame(*self._head())
        except (OSError, ValueError):
            return False
        return not self._going_away

    def fits(self, size: int) -> bool:
        """Whether a request of so many bytes can be sent without waiting for the server."""
        return size <= min(self._window, self._new_window)

    def request(self, headers: bytes, body: bytes, deadline: float | None) -> None:
        """Begins a call; `deadline` (time.monotonic) bounds all that follows, TimeoutError is raised then."""
        self._stream += 2
        self._ended, self._read_of_stream, self._deadline = False, 0, deadline
        self._window -= len(body)
        if deadline is None:
            self._sock.settimeout(None)
        pieces = [body[at : at + _SENT_FRAME] for at in range(0, len(body), _SENT_FRAME)]
        frames = [_frame(HEADERS, END_HEADERS, self._stream, headers)]
        for number, piece in enumerate(pieces, 1):
            frames.append(_frame(DATA, END_STREAM if number == len(pieces) else 0, self._stream, piece))
        self._send(self._greeting + b"".join(frames))
        self._greeting = b""

    def next_frame(self) -> Frame:
        """The next HEADERS, DATA or RST_STREAM frame of the call; what is left of the one before is passed over."""
        self._pass_over(self._unread)
        while True:
            size, kind, flags, stream = self._head()
            if stream != self._stream or kind not in (DATA, HEADERS, RST_STREAM):
                self._connection_frame(size, kind, flags, stream)
                continue
            if kind == DATA:
                return self._data(size, flags)
            if kind == HEADERS:
                frame = Frame(HEADERS, flags, size, self._header_block(size, flags))
            else:
                frame = Frame(RST_STREAM, flags, size, self._take(size))
            self._ended = kind == RST_STREAM or frame.ends
            return frame

    def headers(self, frame: Frame) -> list[tuple[bytes, bytes]]:
        """The fields of a HEADERS frame; to be called for each of them, in order."""
        try:
            fields = self._decoder.decode(frame.payload, raw=True)
        except HPACKError as wrong:
            raise Broken("headers that cannot be decoded") from wrong
        return [(bytes(name), bytes(value)) for name, value in fields]

    def read(self, target: memoryview) -> int:
        """Reads payload of the last DATA frame into the memory, as much as both have room for; how much that was."""
        size = min(len(target), self._unread - self._padding)
        self._read_exactly(target[:size])
        self._unread -= size
        if self._unread == self._padding:
            self._pass_over(self._padding)
        return size

    def reset(self) -> None:
        """Tells the server that nobody waits for the call any more."""
        with suppress(OSError):
            self._sock.settimeout(_IDLE_S)
            self._sock.sendall(_frame(RST_STREAM, 0, self._stream, struct.pack(">L", CANCEL)))

    def _data(self, size: int, flags: int) -> Frame:
        self._unread, self._padding = size, 0
        if flags & PADDED:
            self._padding = self._take(1)[0]
            self._unread -= 1
            if self._padding > self._unread:
                raise Broken("more padding than payload")
        self._ended = bool(flags & END_STREAM)
        payload = self._unread - self._padding
        if payload == 0:
            self._pass_over(self._padding)
        self._replenish(size)
        return Frame(DATA, flags, payload)

    def _replenish(self, size: int) -> None:
        self._read_bytes += size
        self._read_of_stream += size
        updates = b""
        if self._read_bytes >= _REPLENISH_AT:
            updates += _frame(WINDOW_UPDATE, 0, 0, struct.pack(">L", self._read_bytes))
            self._read_bytes = 0
        if self._read_of_stream >= _REPLENISH_AT and not self._ended:
            updates += _frame(WINDOW_UPDATE, 0, self._stream, struct.pack(">L", self._read_of_stream))
            self._read_of_stream = 0
        if updates:
            self._send(updates)

    def _header_block(self, size: int, flags: int) -> bytes:
        """A header block, which may go on in CONTINUATION frames."""
        block = self._bounded(size)
        if flags & PADDED:
            if not block or block[0] >= len(block):
                raise Broken("more padding than payload")
            block = block[1 : len(block) - block[0]]
        if flags & PRIORITY:
            block = block[5:]
        while not flags & END_HEADERS:
            size, kind, flags, stream = self._head()
            if kind != CONTINUATION or stream != self._stream or len(block) + size > _MOST_HEADERS:
                raise Broken("headers that do not go on as they must")
            block += self._bounded(size)
        return block

    def _connection_frame(self, size: int, kind: int, flags: int, stream: int) -> None:
        """Does what a frame of the connection asks for; passes over what is not known."""
        if kind in (DATA, HEADERS, PUSH_PROMISE, CONTINUATION):
            raise Broken("a frame of a stream that was not asked for")
        if kind not in (SETTINGS, PING, GOAWAY, WINDOW_UPDATE):
            self._pass_over(size)
            return
        payload = self._bounded(size)
        try:
            if kind == SETTINGS and not flags & ACK:
                self._apply(payload)
                self._send(_frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._send(_frame(PING, ACK, 0, payload))
            elif kind == WINDOW_UPDATE and stream == 0:
                self._window += struct.unpack(">L", payload)[0]
            elif kind == GOAWAY:
                self._going_away = True
                if not self._ended and struct.unpack_from(">L", payload)[0] & _LARGEST_WINDOW < self._stream:
                    raise GoneAway("the server is going away")
        except struct.error as wrong:
            raise Broken("a frame of the wrong size") from wrong

    def _apply(self, settings: bytes) -> None:
        for name, value in _SETTING.iter_unpack(settings):
            if name == _INITIAL_WINDOW:
                self._new_window = value

    def _head(self) -> tuple[int, int, int, int]:
        """Size, kind, flags and stream of the next frame."""
        high, low, kind, flags, stream = _HEAD.unpack(self._take(_HEAD_BYTES))
        if not self._met:
            if kind != SETTINGS or flags & ACK:
                raise Broken("no HTTP/2 server is there")
            self._met = True
        return high << 8 | low, kind, flags, stream & _LARGEST_WINDOW

    def _bounded(self, size: int) -> bytes:
        """The payload of a frame that is small by its nature."""
        if size > _MOST_HEADERS:
            raise Broken(f"a frame of {size} bytes where few are expected")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        while self._end - self._start < size:
            if size > _STAGE_BYTES:
                whole = bytearray(size)
                self._read_exactly(memoryview(whole))
                return bytes(whole)
            left = self._end - self._start
            self._stage[:left] = self._stage[self._start : self._end]
            self._start, self._end = 0, left + self._receive(self._stage[left:])
        self._start += size
        return bytes(self._stage[self._start - size : self._start])

    def _pass_over(self, size: int) -> None:
        while size:
            size -= len(self._take(min(size, _STAGE_BYTES)))
        self._unread = 0

    def _read_exactly(self, target: memoryview) -> None:
        staged = min(self._end - self._start, len(target))
        target[:staged] = self._stage[self._start : self._start + staged]
        self._start += staged
        while staged < len(target):
            staged += self._receive(target[staged:], _WAIT_FOR_ALL)

    def _receive(self, target: memoryview, flags: int = 0) -> int:
        """Receives at least a byte. Raises Broken at the end, TimeoutError at the deadline."""
        if self._deadline is not None:
            self._arm(self._deadline)
            flags = 0
        count = self._sock.recv_into(target, len(target), flags)
        if count == 0:
            raise Broken("the server closed the connection")
        return count

    def _send(self, data: bytes) -> None:
        if self._deadline is not None:
            self._arm(self._deadline)
        self._sock.sendall(data)

    def _arm(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)


def header_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """A header block of fields as they are, in no table, so that it is the same on every connection."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    """A string of HPACK: its length, seven bits at first, and its characters."""
    data = text.encode("ascii")
    if len(data) < 0x7F:
        return bytes([len(data)]) + data
    length, head = len(data) - 0x7F, bytearray([0x7F])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*head, length]) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload
