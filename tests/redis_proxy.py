"""A way to Redis that can be cut: a TCP proxy on loopback, in threads of its own."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class RedisProxy:
    """Forwards connections to a port. `cut` breaks them and takes no new ones, `swallow` takes all and answers none."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._inlet = socket.create_server(("127.0.0.1", 0))
        self._open = threading.Event()
        self._open.set()
        self._swallows = False
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def dsn(self) -> str:
        return f"redis://127.0.0.1:{self._inlet.getsockname()[1]}/0"

    def cut(self) -> None:
        """All connections break, and new ones do at once."""
        self._open.clear()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _end(*pair)

    def swallow(self) -> None:
        """What is sent is lost, as where a cable is pulled."""
        self._swallows = True

    def restore(self) -> None:
        """New connections work; those whose bytes were lost never will, and break."""
        if self._swallows:
            self.cut()
        self._swallows = False
        self._open.set()

    def close(self) -> None:
        self.cut()
        self._inlet.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer = self._inlet.accept()[0]
                if not self._open.is_set():
                    peer.close()
                    continue
                self._connect(peer)

    def _connect(self, peer: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            peer.close()
            return
        server.settimeout(None)
        with self._lock:
            self._pairs.append((peer, server))
        for source, sink in ((peer, server), (server, peer)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self._swallows:
                    sink.sendall(data)
        _end(source, sink)


def _end(*ends: socket.socket) -> None:
    for one in ends:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def redis_proxy(target: int) -> Iterator[RedisProxy]:
    """A proxy in front of the Redis at a port, until its block is left."""
    proxy = RedisProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
