"""A client in a process of its own: `python -m benchmarks.rig.worker PEER TARGET [--warm]`.

It connects, does one tiny call so that the connection stands, prints a line, then takes operations as JSON lines on
stdin and prints what each returned. Times are taken here, around the client's own call and nothing else.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from benchmarks.rig.bare_ccxt import BareCcxtPeer
from benchmarks.rig.processes import peak_rss_mb

if TYPE_CHECKING:
    from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD: Final = 32 * 2**20
"""glibc refuses more."""


class Peer(ABC):
    """A client of one server."""

    @abstractmethod
    def get(self, rows: int) -> pa.Table:
        """The last so many rows, as the peer's users get them."""

    @abstractmethod
    def close(self) -> None:
        """Closes its connection."""

    def read(self, rows: int) -> dict[str, float]:
        """One big read: seconds, the process's CPU seconds and peak memory."""
        began, cpu = time.perf_counter(), time.process_time()
        table = self.get(rows)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        assert table.num_rows == rows
        return {"seconds": seconds, "cpu_s": cpu_s, "peak_rss_mb": peak_rss_mb(os.getpid())}

    def few(self, rows: int, times: int) -> list[float]:
        """Seconds of each of so many small reads, one after the other."""
        return timed(lambda: self.get(rows), times)


class FlightPeer(Peer):
    """Stock pyarrow.flight."""

    def __init__(self, target: str) -> None:
        import pyarrow.flight as fl

        self._client = fl.connect(f"grpc://{target}")
        self._ticket_type = fl.Ticket
        self.get(1)

    def get(self, rows: int) -> pa.Table:
        return self._client.do_get(self._ticket_type(json.dumps({"rows": rows}))).read_all()

    def close(self) -> None:
        self._client.close()


class SocketPeer(Peer):
    """Plain TCP, Arrow's own stream reader."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._stream = self._socket.makefile("rb")

    def get(self, rows: int) -> pa.Table:
        self._socket.sendall(b"%d\n" % rows)
        return pa.ipc.open_stream(self._stream).read_all()

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


class HistoryPeer(Peer):
    """The markethistory client, with the options that its users get."""

    def __init__(self, target: str) -> None:
        import markethistory
        from benchmarks.rig import bars
        from benchmarks.rig.history import series_of

        self._target = target
        self._client = markethistory.connect(target)
        self._stalled: list[markethistory.BatchStream] = []
        self._bars = bars
        self._series_of = series_of
        self._client.series()

    def get(self, rows: int) -> pa.Table:
        return self._client.read(self._series_of(rows), self._bars.start_of(rows), self._bars.END)

    def close(self) -> None:
        self._client.close()

    def last(self, series: str, rows: int, times: int) -> list[float]:
        """Seconds of each of so many reads of the last rows of a series, one after the other."""
        return timed(lambda: self._client.last(series, rows, end=self._bars.END), times)

    def callers(self, series: str, rows: int, callers: int, calls: int) -> float:
        """Calls a second of so many tasks of one asyncio client, that share so many such reads."""
        return asyncio.run(self._callers(series, rows, callers, calls))

    async def _callers(self, series: str, rows: int, callers: int, calls: int) -> float:
        import markethistory.aio

        async with markethistory.aio.connect(self._target) as client:

            async def ask() -> None:
                for _ in range(calls // callers):
                    await client.last(series, rows, end=self._bars.END)

            await ask()  # its connection stands and its code is warm
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(callers):
                    group.create_task(ask())
            return calls // callers * callers / (time.perf_counter() - began)

    def stall(self, rows: int, streams: int) -> None:
        """Opens so many reads, takes one batch of each, and no more. They stay open until `leave`."""
        start = self._bars.start_of(rows)
        self._stalled = [
            self._client.read_batches(self._series_of(rows), start, self._bars.END) for _ in range(streams)
        ]
        for stream in self._stalled:
            next(stream)

    def leave(self) -> float:
        """Cancels the reads that stall; the instant before, in seconds since 1970."""
        before = time.time()
        while self._stalled:
            self._stalled.pop().close()
        return before

    def coverage(self, series: str, start: str, times: int) -> list[float]:
        """Seconds of each of so many Coverage calls from `start` to the end of the bars."""
        return timed(lambda: self._client.coverage(series, start, self._bars.END), times)

    def ensure(self, series: str, start: str, end: str, times: int = 1) -> dict[str, Any]:
        """Seconds of each of so many EnsureRange calls, and what they did in all."""
        results = []
        seconds = timed(lambda: results.append(self._client.ensure(series, start, end)), times)
        calls, rows = (sum(getattr(result, name) for result in results) for name in ("call_count", "row_count"))
        return {"seconds": seconds, "calls": calls, "rows": rows}


class AsyncpgPeer(Peer):
    """QuestDB by asyncpg's `fetch`, then a Table: what a user without this server would write."""

    def __init__(self, target: str) -> None:
        from benchmarks.rig.questdb_reads import AsyncpgReads

        self._reads = AsyncpgReads(target)

    def get(self, rows: int) -> pa.Table:
        return self._reads.get(rows)

    def close(self) -> None:
        self._reads.close()


class ParquetPeer(Peer):
    """QuestDB's own Parquet export of the whole range in one request, read into a Table."""

    def __init__(self, target: str) -> None:
        from benchmarks.rig.questdb_reads import ParquetReads

        self._reads = ParquetReads(target)

    def get(self, rows: int) -> pa.Table:
        return self._reads.get(rows)

    def close(self) -> None:
        """It keeps no connection."""


PEERS: Final[dict[str, Callable[[str], Peer | BareCcxtPeer]]] = {
    "asyncpg": AsyncpgPeer,
    "parquet": ParquetPeer,
    "flight": FlightPeer,
    "socket": SocketPeer,
    "history": HistoryPeer,
    "ccxt": BareCcxtPeer,
}


def timed(action: Callable[[], object], times: int) -> list[float]:
    """Seconds of each of so many runs. The result of one run is gone before the next begins."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - began)
        del result
    return seconds


def keep_memory() -> None:
    """Tells glibc's malloc to keep what it once had, instead of giving it back and faulting it in again."""
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in (
        (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        (_M_TRIM_THRESHOLD, 2**31 - 1),
        (_M_TOP_PAD, 64 * 2**20),
    ):
        if mallopt(option, value) != 1:
            raise RuntimeError(f"this C library does not take mallopt({option}, {value})")


def main() -> None:
    """Serves operations until stdin ends."""
    if "--warm" in sys.argv:
        keep_memory()
    peer = PEERS[sys.argv[1]](sys.argv[2])
    print("true", flush=True)
    try:
        for line in sys.stdin:
            command = json.loads(line)
            print(json.dumps(getattr(peer, command["operation"])(**command["arguments"])), flush=True)
    finally:
        peer.close()


if __name__ == "__main__":
    main()
