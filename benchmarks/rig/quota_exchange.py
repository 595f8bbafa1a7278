"""An exchange that only writes down what it is sent, and when: datagrams, stamped by the kernel as they arrive.

The kernel's stamp is taken inside of the sender's call, so a recorder that is scheduled late falsifies nothing.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SO_TIMESTAMPNS: Final = 35
_STAMP: Final = struct.Struct("@qq")


@dataclass(frozen=True)
class Call:
    """A call: seconds on the host's clock, who sent it, its weight."""

    at: float
    who: str
    weight: int


class QuotaExchange:
    """The calls seen so far, in the order they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: list[Call] = []

    def between(self, begin: float, end: float) -> list[Call]:
        """The calls of a time, seconds on the host's clock."""
        return [call for call in list(self.calls) if begin <= call.at < end]

    def fullest(self, window_s: float, *, weighed: bool = False) -> int:
        """Most calls, or weight, in any sliding window [t, t + window)."""
        calls = sorted(self.calls, key=lambda call: call.at)
        times, sums = [call.at for call in calls], [0]
        for call in calls:
            sums.append(sums[-1] + (call.weight if weighed else 1))
        ends = (bisect_left(times, at + window_s) for at in times)
        return max((sums[end] - sums[begin] for begin, end in enumerate(ends)), default=0)


@contextmanager
def quota_exchange() -> Iterator[QuotaExchange]:
    """Takes calls `WHO WEIGHT` on a free loopback port, until its block is left."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet:
        inlet.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        inlet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        inlet.bind(("127.0.0.1", 0))
        exchange = QuotaExchange(inlet.getsockname()[1])
        thread = threading.Thread(target=_record, args=(inlet, exchange))
        thread.start()
        try:
            yield exchange
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", exchange.port))
            thread.join()


def _record(inlet: socket.socket, exchange: QuotaExchange) -> None:
    while True:
        text, ancillary, _, _ = inlet.recvmsg(256, 256)
        if not text:
            return
        at = time.time()
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanos = _STAMP.unpack(data[: _STAMP.size])
                at = seconds + nanos / 1e9
        who, weight = text.decode().split()
        exchange.calls.append(Call(at, who, int(weight)))
