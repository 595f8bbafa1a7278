"""The clients behind one face, and a relay that cuts connections: what the client's tests run against."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc

import markethistory
import markethistory.aio
from markethistory import Client, RetryPolicy
from markethistory.client import _OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMPATIENT = RetryPolicy(attempts=4, backoff_s=0.0)


class Face(Protocol):
    """Calls one method of a fresh client of `target`; `read_batches` gives (batches, summary)."""

    def __call__(self, target: str, method: str, *args: Any, **kwargs: Any) -> Any: ...


def sync_face(target: str, method: str, *args: Any, **kwargs: Any) -> Any:
    with markethistory.connect(target, retry=IMPATIENT) as history:
        answer = getattr(history, method)(*args, **kwargs)
        return (list(answer), answer.summary) if method == "read_batches" else answer


def channel_face(target: str, method: str, *args: Any, **kwargs: Any) -> Any:
    """The sync client as it is where it cannot read over connections of its own."""
    with Client(grpc.insecure_channel(target, options=_OPTIONS), retry=IMPATIENT) as history:
        answer = getattr(history, method)(*args, **kwargs)
        return (list(answer), answer.summary) if method == "read_batches" else answer


def aio_face(target: str, method: str, *args: Any, **kwargs: Any) -> Any:
    async def call() -> Any:
        async with markethistory.aio.connect(target, retry=IMPATIENT) as history:
            answer = getattr(history, method)(*args, **kwargs)
            if method != "read_batches":
                return await answer
            return [batch async for batch in answer], answer.summary

    return asyncio.run(call())


@contextmanager
def cutting_relay(target: str, allowances: list[int]) -> Iterator[str]:
    """A TCP relay to `target` that resets its n-th connection after the n-th number of bytes to the client.

    Connections beyond the list are not cut.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def serve() -> None:
            for number in range(1000):
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                allowance = allowances[number] if number < len(allowances) else None
                _start(threads, partial(_relay, client, target, allowance))

        _start(threads, serve)
        host, port = listener.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)


def _start(threads: list[threading.Thread], work: Callable[[], None]) -> None:
    threads.append(threading.Thread(target=work, daemon=True))
    threads[-1].start()


def _relay(client: socket.socket, target: str, allowance: int | None) -> None:
    host, _, port = target.rpartition(":")
    with client, socket.create_connection((host, int(port))) as server:
        upward = threading.Thread(target=_pump, args=(client, server, None), daemon=True)
        upward.start()
        _pump(server, client, allowance)
        upward.join(10)


def _pump(source: socket.socket, sink: socket.socket, allowance: int | None) -> None:
    """Copies until an end closes or the allowance is spent, then closes both."""
    left = allowance
    with suppress(OSError):
        while left is None or left > 0:
            data = source.recv(65_536 if left is None else min(left, 65_536))
            if not data:
                break
            sink.sendall(data)
            left = None if left is None else left - len(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
