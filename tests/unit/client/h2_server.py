"""An HTTP/2 server that says exactly what a test makes it say, frame by frame, sense or nonsense."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpack import Decoder, Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 0x20
OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
OK_TRAILERS = [("grpc-status", "0")]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">L", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">L", stream) + payload


def message(content: bytes) -> bytes:
    """A gRPC message, not compressed."""
    return b"\0" + struct.pack(">L", len(content)) + content


@dataclass
class Request:
    stream: int
    fields: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One accepted connection."""

    sock: socket.socket
    seen: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise ConnectionError("the client is gone")
            data += piece
        return data

    def next_frame(self) -> tuple[int, int, int, bytes]:
        """Kind, flags, stream, payload."""
        head = self._exactly(9)
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        self.seen.append((head[3], head[4], int.from_bytes(head[5:], "big"), payload))
        return self.seen[-1]

    def until(self, kind: int, flags: int = 0) -> tuple[int, int, int, bytes]:
        """The next frame of a kind that has these flags."""
        while True:
            found = self.next_frame()
            if found[0] == kind and found[1] & flags == flags:
                return found

    def request(self) -> Request:
        """The next request, whole."""
        _, _, stream, block = self.until(HEADERS)
        fields = {str(name): str(value) for name, value in self.decoder.decode(block)}
        body = b""
        while True:
            _, flags, _, payload = self.until(DATA)
            body += payload
            if flags & END_STREAM:
                return Request(stream, fields, body[5:])

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def headers(self, stream: int, fields: list[tuple[str, str]], flags: int = END_HEADERS) -> bytes:
        return frame(HEADERS, self.encoder.encode(fields), flags, stream)

    def answer(self, request: Request, *contents: bytes) -> None:
        """An answer as it should be."""
        self.send(self.headers(request.stream, OK_HEADERS))
        self.send(*(frame(DATA, message(content), 0, request.stream) for content in contents))
        self.send(self.headers(request.stream, OK_TRAILERS, END_HEADERS | END_STREAM))

    def wait_for_end(self) -> None:
        """Returns once the client has closed the connection."""
        with suppress(OSError):
            while True:
                self.next_frame()


@contextmanager
def scripted(*scripts: Callable[[Peer], None], greet: bool = True) -> Iterator[str]:
    """A server whose n-th connection is served by the n-th script; the target. What a script raises is raised here.

    `greet`: it sends its settings first, as HTTP/2 wants it.
    """
    failed: list[BaseException] = []

    def serve(listener: socket.socket) -> None:
        for script in scripts:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(30)
                peer = Peer(sock)
                try:
                    assert peer._exactly(len(PREFACE)) == PREFACE
                    peer.send(frame(SETTINGS) if greet else b"")
                    script(peer)
                    sock.shutdown(socket.SHUT_WR)
                    peer.wait_for_end()  # closed at once, it would take back what the client has not read
                except OSError:
                    continue  # clients may leave
                except BaseException as error:  # noqa: BLE001 -- told below
                    failed.append(error)
        listener.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):  # if it is closed already
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
    if failed:
        raise failed[0]
