"""`stalled_client`: what a server's memory grows by while clients have begun long reads and take nothing."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rig.history import fill, historyd, series_of
from benchmarks.rig.pairing import say
from benchmarks.rig.processes import Server, working

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = 8


def run(rows: int = 5_000_000, streams: int = STREAMS, settled_s: float = 3.0) -> dict[str, Any]:
    """Growth of resident memory per stream, after one whole read has warmed the server; and what stays after."""
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.db"
        fill(store, {series_of(rows): rows})
        server, address = stack.enter_context(historyd(store))
        worker = stack.enter_context(working("history", address))
        worker.ask("read", rows=rows)
        # Pages of the file that SQLite maps are the kernel's, to be had back at any time: they are not counted.
        before = _own_memory_mb(server)
        worker.ask("stall", rows=rows, streams=streams)
        say(f"{streams} streams stall")
        stalled = max(_own_memory_mb(server) for _ in _every(settled_s / 12, settled_s))
        worker.ask("leave")
        time.sleep(settled_s)
        after = _own_memory_mb(server)
    return {
        "streams": streams,
        "grown_mib_per_stream": round((stalled - before) / streams, 2),
        "left_mib_per_stream": round((after - before) / streams, 2),
        "range_mib": round(rows * 48 / 2**20),
    }


def _own_memory_mb(server: Server) -> float:
    memory = server.process.memory_info()
    return float(memory.rss - memory.shared) / 2**20


def _every(pause_s: float, for_s: float) -> Iterator[None]:
    """Paces a loop: sleeps before each turn."""
    for _ in range(int(for_s / pause_s)):
        time.sleep(pause_s)
        yield
