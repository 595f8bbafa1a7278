"""`cancel`: how long after a client's cancel the server is rid of the call.

The client notes the instant before it cancels a long read; the line that the server's access log has for the call
says when it was over, cut to the millisecond: one is added, so that the figure is a bound from above.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.rig.history import fill, historyd, series_of
from benchmarks.rig.pairing import milliseconds
from benchmarks.rig.processes import working


def run(rows: int = 2_000_000, times: int = 200) -> dict[str, Any]:
    """p50 and p99 over reads that are cancelled while the server waits to send."""
    seconds = []
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.db"
        fill(store, {series_of(rows): rows})
        server, address = stack.enter_context(historyd(store, log=True))
        worker = stack.enter_context(working("history", address))
        for _ in range(times):
            worker.ask("stall", rows=rows, streams=1)
            time.sleep(0.02)  # the server fills the client's window and waits
            worker.begin("leave")
            while "method=ReadRange" not in (line := server.log_line()):
                assert line, "the server's log has ended"
            assert "status=CANCELLED" in line, line
            over = datetime.fromisoformat(line.partition(" ")[0]).timestamp() + 0.001
            seconds.append(over - worker.answer())
    return milliseconds(seconds)
