"""The floor: bars from memory as an Arrow IPC stream over a plain TCP socket. Run as a process, it prints its address.

A request is one line, the number of rows; the answer is one IPC stream. One thread a connection.
"""

from __future__ import annotations

import socketserver
import sys

import pyarrow as pa

from benchmarks.rig.bars import SCHEMA, table


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        tables = self.server.tables  # type: ignore[attr-defined] # set below, the base class knows nothing of it
        for line in self.rfile:
            with pa.ipc.new_stream(self.wfile, SCHEMA) as stream:
                stream.write_table(tables[int(line)])


class BarServer(socketserver.ThreadingTCPServer):
    """Serves tables of the sizes that it was started with."""

    daemon_threads = True

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tables = {size: table(size) for size in sizes}


if __name__ == "__main__":
    with BarServer([int(size) for size in sys.argv[1:]]) as server:
        print(f"127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
