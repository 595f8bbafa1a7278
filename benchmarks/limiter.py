"""`limiter`: one quota shared by many greedy processes through a real Redis, as an exchange sees it.

Ours, beside the algorithm of the specification's original (a bucket that is read and written back in several steps)
and beside pyrate-limiter's sliding log, one after the other on the same machine. Sends are stamped by the kernel.
Where it is allowed, workers and Redis run under the FIFO scheduler, so that a busy machine is not what is measured;
`scheduler` names what was used.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.rig.quota_exchange import quota_exchange
from benchmarks.rig.quota_worker import Job
from benchmarks.rig.quota_workers import quota_workers
from benchmarks.rig.redis_server import redis_server
from benchmarks.rig.scheduler import scheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.rig.quota_exchange import QuotaExchange

_PER_SECOND: Final = 20
_PER_MINUTE: Final = 1_200
_ONE: Final[dict[str, Any]] = {"tokens_per_interval": _PER_SECOND, "interval_ms": 1_000, "local_semaphore": 4}
_TWO: Final[dict[str, Any]] = {
    "limits": [{"calls": _PER_SECOND, "interval_ms": 1_000}, {"weight": _PER_MINUTE, "interval_ms": 60_000}],
    "local_semaphore": 4,
}
_PATIENCE_S: Final = 90.0


def run(processes: int = 16, duration_s: float = 60.0, long_s: float = 125.0) -> dict[str, Any]:
    """20 calls/s for `duration_s`, then also 1200 weight/min for `long_s` (0: not); see `_one` and `_two`."""
    prefix = scheduler()
    found: dict[str, Any] = {"scheduler": "SCHED_FIFO" if prefix else "SCHED_OTHER"}
    for contender in ("ours", "bucket", "pyrate"):
        found |= _named(contender, _one(contender, processes, duration_s, prefix))
    for contender in ("ours", "bucket") if long_s else ():
        found |= _named(contender, _two(contender, processes, long_s, prefix))
    return found


def _one(contender: str, processes: int, duration_s: float, prefix: Sequence[str]) -> dict[str, Any]:
    """One limit. `utilisation` leaves out the first two windows, `max_in_window` nothing."""
    exchange, tallies = _measure(contender, _ONE, (1,), processes, duration_s, prefix)
    begin = exchange.calls[0].at + 2
    seconds = max(duration_s - 2, 1)
    return {
        "utilisation": len(exchange.between(begin, begin + seconds)) / (_PER_SECOND * seconds),
        "max_in_window": exchange.fullest(1),
        **_shares(tallies),
    }


def _two(contender: str, processes: int, long_s: float, prefix: Sequence[str]) -> dict[str, Any]:
    """Both limits, weights 1, 2 and 5. `two_utilisation` is of the minute's weight, from its second minute on."""
    exchange, tallies = _measure(contender, _TWO, (1, 2, 5), processes, long_s, prefix)
    begin = exchange.calls[0].at + 60.3
    seconds = long_s - 60.3
    used = sum(call.weight for call in exchange.between(begin, begin + min(seconds, 60.3)))
    return {
        "two_utilisation": used / _PER_MINUTE,
        "two_max_in_second": exchange.fullest(1),
        "two_max_in_minute": exchange.fullest(60, weighed=True),
        **{f"two_{name}": value for name, value in _shares(tallies).items()},
    }


def _measure(
    contender: str,
    quota: dict[str, Any],
    weights: tuple[int, ...],
    processes: int,
    seconds: float,
    prefix: Sequence[str],
) -> tuple[QuotaExchange, list[dict[str, Any]]]:
    """Runs the workers for so many seconds from the first call on."""
    print(f"{contender}: {processes} processes, {seconds:.0f} s", file=sys.stderr, flush=True)
    with redis_server(prefix=prefix) as redis, quota_exchange() as exchange:
        jobs = [
            Job(f"p{number}", contender, redis.dsn, exchange.port, quota, 4, weights) for number in range(processes)
        ]
        with quota_workers(jobs, prefix) as workers:
            deadline = time.monotonic() + _PATIENCE_S
            while not exchange.calls and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(seconds)
            tallies = [worker.finish() for worker in workers]
    return exchange, tallies


def _shares(tallies: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How even the grants were (least by most of a process), and what one cost, setting up included."""
    grants = [tally["grants"] for tally in tallies]
    trips = sum(tally["round_trips"] for tally in tallies)
    return {"fairness": min(grants) / max(*grants, 1), "round_trips_per_grant": trips / max(sum(grants), 1)}


def _named(contender: str, found: dict[str, Any]) -> dict[str, Any]:
    prefix = "" if contender == "ours" else f"{contender}_"
    return {f"{prefix}{name}": round(value, 4) for name, value in found.items()}
