"""The yardstick: a stock Arrow Flight server that serves bars from memory. Run as a process, it prints its address.

A ticket is JSON: `{"rows": N}` for the last N bars of the table (whole batches where N is a size it was started
with), as a table that is ready before the first call.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pyarrow.flight as fl

from benchmarks.rig.bars import table


class BarServer(fl.FlightServerBase):  # type: ignore[misc] # pyarrow ships no types
    """Serves prefixes of one table, stock in all that Flight decides."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self._tables = {size: table(size) for size in sizes}
        self._largest = self._tables[max(sizes)]

    def do_get(self, _: Any, ticket: fl.Ticket) -> fl.RecordBatchStream:
        rows = json.loads(ticket.ticket)["rows"]
        served = self._tables.get(rows)
        return fl.RecordBatchStream(self._largest.slice(self._largest.num_rows - rows) if served is None else served)


if __name__ == "__main__":
    with BarServer([int(size) for size in sys.argv[1:]]) as server:
        print(f"127.0.0.1:{server.port}", flush=True)
        server.serve()
