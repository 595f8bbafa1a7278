"""Python's answer to the benchmark of the clients: `python -m benchmarks.rig.client_bench PEER TARGET ...`.

The other languages have a program of the same manners; tests/clients/README.md says which.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


def history(target: str, series: str, start: str, end: str) -> Callable[[], pa.Table]:
    """The markethistory client."""
    import markethistory

    client = markethistory.connect(target)
    return lambda: client.read(series, start, end)


def flight(target: str, ticket: str) -> Callable[[], pa.Table]:
    """Stock pyarrow.flight."""
    import pyarrow.flight as fl

    client = fl.connect(f"grpc://{target}")
    return lambda: client.do_get(fl.Ticket(ticket)).read_all()


def main() -> None:
    """Reads once for each line of its input."""
    peer, *arguments = sys.argv[1:]
    peers: dict[str, Callable[..., Callable[[], pa.Table]]] = {"history": history, "flight": flight}
    read = peers[peer](*arguments)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        table = read()
        print(json.dumps({"rows": table.num_rows, "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
