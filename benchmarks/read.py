"""`read`: a stored range to a client's Table, against stock Arrow Flight and a plain socket that serve from memory.

Three states of the clients' heaps, as each of them alone can flip the result:
- cold: a fresh client process, its first big read. The goal is told in these.
- steady: many reads in one process.
- warm: Flight's client with a malloc that keeps its memory, against ours as it is.
Ratios are speed by speed: 2 means that ours takes half the time. Each is the median over paired rounds.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rig.bars import BYTES_PER_ROW
from benchmarks.rig.history import fill, historyd, series_of
from benchmarks.rig.pairing import median, paired, say, times_faster
from benchmarks.rig.processes import Server, Worker, serving, working


@dataclass(frozen=True)
class Size:
    """A number of rows, its name in the results, and how often it is read."""

    rows: int
    label: str
    cold_rounds: int
    steady_rounds: int


FULL = (Size(525_600, "525600", 21, 41), Size(10_000_000, "10m", 7, 11))


@dataclass(frozen=True)
class Servers:
    """The three servers and their addresses, by the name of the peer that asks them."""

    by_peer: dict[str, Server]
    targets: dict[str, str]


def run(sizes: tuple[Size, ...] = FULL) -> dict[str, Any]:
    """Measures all sizes in all states."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = _start(stack, folder, sizes)
        found: dict[str, Any] = {}
        for size in sizes:
            found |= _cold(servers, size)
            found |= _steady(servers, size)
        found["server_peak_rss_mb"] = servers.by_peer["history"].peak_rss_mb()
        found["flight_server_peak_rss_mb"] = servers.by_peer["flight"].peak_rss_mb()
        return found


def _start(stack: ExitStack, folder: Path, sizes: tuple[Size, ...]) -> Servers:
    rows = [size.rows for size in sizes]
    fill(folder / "bench.db", {series_of(count): count for count in rows})
    say("starting the servers")
    history, address = stack.enter_context(historyd(folder / "bench.db"))
    flight = stack.enter_context(serving("benchmarks.rig.flight", *map(str, rows)))
    plain = stack.enter_context(serving("benchmarks.rig.sockets", *map(str, rows)))
    targets = {"history": address, "flight": flight.ready_line, "socket": plain.ready_line}
    return Servers({"history": history, "flight": flight, "socket": plain}, targets)


def _cold(servers: Servers, size: Size) -> dict[str, Any]:
    """First big read of fresh processes."""

    def once(peer: str) -> dict[str, float]:
        with working(peer, servers.targets[peer]) as worker:
            return _read(servers.by_peer[peer], worker, size.rows)

    peers = ("history", "flight", "socket")
    found = paired(f"cold, {size.label} rows", size.cold_rounds, {peer: partial(once, peer) for peer in peers})
    seconds = {peer: [read["seconds"] for read in reads] for peer, reads in found.items()}
    return {
        f"ratio_to_flight_{size.label}": times_faster(seconds["history"], seconds["flight"]),
        f"ratio_to_socket_{size.label}": times_faster(seconds["history"], seconds["socket"]),
        f"rows_per_s_{size.label}": round(size.rows / median(seconds["history"])),
        f"client_peak_rss_mb_{size.label}": median([read["peak_rss_mb"] for read in found["history"]]),
        f"flight_client_peak_rss_mb_{size.label}": median([read["peak_rss_mb"] for read in found["flight"]]),
    }


def _steady(servers: Servers, size: Size) -> dict[str, Any]:
    """Many reads in one process each; Flight twice, once with a warm malloc."""
    with ExitStack() as stack:
        workers = {
            peer: stack.enter_context(working(peer, servers.targets[peer])) for peer in ("history", "flight", "socket")
        }
        workers["warm_flight"] = stack.enter_context(working("flight", servers.targets["flight"], warm=True))
        contenders = {
            name: partial(_read, servers.by_peer[name.removeprefix("warm_")], worker, size.rows)
            for name, worker in workers.items()
        }
        for first in contenders.values():
            first()  # the cold one is measured elsewhere
        found = paired(f"steady, {size.label} rows", size.steady_rounds, contenders)
    seconds = {name: [read["seconds"] for read in reads] for name, reads in found.items()}
    gigabytes = size.rows * BYTES_PER_ROW / 1e9
    result = {
        f"steady_ratio_{size.label}": times_faster(seconds["history"], seconds["flight"]),
        f"steady_ratio_to_socket_{size.label}": times_faster(seconds["history"], seconds["socket"]),
        f"warm_ratio_{size.label}": times_faster(seconds["history"], seconds["warm_flight"]),
        f"steady_rows_per_s_{size.label}": round(size.rows / median(seconds["history"])),
    }
    for name, reads in found.items():
        result[f"{name}_server_cpu_s_per_gb_{size.label}"] = _mean(reads, "server_cpu_s") / gigabytes
        result[f"{name}_client_cpu_s_per_gb_{size.label}"] = _mean(reads, "cpu_s") / gigabytes
    return {key: round(value, 3) for key, value in result.items()}


def _read(server: Server, worker: Worker, rows: int) -> dict[str, float]:
    """One big read, and the CPU seconds that it took the server."""
    before = server.cpu_s()
    read: dict[str, float] = worker.ask("read", rows=rows)
    return {**read, "server_cpu_s": server.cpu_s() - before}


def _mean(reads: list[dict[str, float]], name: str) -> float:
    """The kernel counts CPU in ticks of 10 ms, so only sums over many reads tell anything."""
    return sum(read[name] for read in reads) / len(reads)
