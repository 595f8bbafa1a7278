"""A Redis of our own: on a free loopback port, with a private folder, ended when its block is left."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE_S = 20.0


class RedisServer:
    """A running redis-server. `stop`, `start`, `pause` and `resume` play faults."""

    def __init__(self, folder: str, options: Sequence[str], prefix: Sequence[str]) -> None:
        self.port = _free_port()
        self._folder = folder
        self._options = options
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        binary = shutil.which("redis-server")
        assert binary is not None
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder]
        self._process = subprocess.Popen(
            [*self._prefix, binary, *where, "--save", "", "--appendonly", "no", *self._options],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            assert self._process.poll() is None, "redis-server ended"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(_PATIENCE_S)
            self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A plain blocking client."""
        with redis.Redis(port=self.port) as client:
            yield client

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as peer:
                peer.sendall(b"PING\r\n")
                return bool(peer.recv(16))
        except OSError:
            return False


@contextmanager
def redis_server(*options: str, prefix: Sequence[str] = ()) -> Iterator[RedisServer]:
    """A Redis that keeps nothing over a restart; `prefix` goes before its command (a scheduler)."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder, options, prefix)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
