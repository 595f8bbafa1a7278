"""One quota, many processes, real faults: what the exchange sees when Redis, a process or the venue misbehaves.

The exchange's stamps are the kernel's. The window is long (40 calls in 2 s, margin 20 ms), so that a machine that runs
other tests beside these breaks no promise of the limiter's: a send delayed by more than its margin. Where it is
allowed, workers and Redis run under the FIFO scheduler, for the same reason.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from benchmarks.rig.quota_exchange import quota_exchange
from benchmarks.rig.quota_worker import Job
from benchmarks.rig.quota_workers import quota_workers
from benchmarks.rig.redis_server import redis_server
from benchmarks.rig.scheduler import scheduler
from historyd.ratelimit.options import RateLimiterOptions
from historyd.ratelimit.redis import redis_keys
from tests.cluster_limiters import cluster_limiters
from tests.redis_proxy import redis_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rig.quota_exchange import QuotaExchange
    from benchmarks.rig.quota_workers import QuotaWorker
    from benchmarks.rig.redis_server import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

QUOTA: Final[dict[str, Any]] = {"tokens_per_interval": 40, "interval_ms": 2_000, "local_semaphore": 4}
MOST: Final = 40
WINDOW_S: Final = 2.0
PROCESSES: Final = 4


SHARES: Final[dict[str, Any]] = {
    **QUOTA,
    "scope": "cluster",
    "on_redis_down": "share",
    "expected_replicas": PROCESSES,
}


def jobs(
    dsn: str, exchange: QuotaExchange, tasks: int = 4, quota: dict[str, Any] | None = None, count: int = PROCESSES
) -> list[Job]:
    return [Job(f"p{number}", "ours", dsn, exchange.port, quota or QUOTA, tasks) for number in range(count)]


def penalise(dsn: str, seconds: float) -> None:
    """Tells all holders of the key, as a server that got a 429 does."""

    async def tell() -> None:
        async with cluster_limiters() as limiters:
            budget = RateLimiterOptions.model_validate(QUOTA).budget()
            limiters.limiter("ccxt:bench", budget, dsn).penalise(seconds)

    asyncio.run(tell())


def wait_for_calls(exchange: QuotaExchange, count: int) -> None:
    """Until so many more calls were seen."""
    wanted, deadline = len(exchange.calls) + count, time.monotonic() + 30
    while len(exchange.calls) < wanted:
        assert time.monotonic() < deadline, "the callers hang"
        time.sleep(0.01)


def wait_until_all_sleep(redis: RedisServer) -> None:
    """Until every process, of one caller each, holds a booking not yet due: what they hear now they hear asleep."""
    log = redis_keys("ccxt:bench", RateLimiterOptions.model_validate(QUOTA).budget().limits)[1]
    with redis.client() as client:
        for _ in range(3_000):
            seconds, micros = client.time()
            dues = [int(member.split(b":")[1]) for member in client.zrange(log, 0, -1)]
            if sum(1 for due in dues if due > seconds * 1_000_000 + micros) == PROCESSES:
                return
            time.sleep(0.01)
    raise AssertionError("the callers never all sleep")


def used_to_the_full(exchange: QuotaExchange) -> None:
    """In some window that begins from now on nine tenths of the quota are used."""
    begin = time.time()
    wait_for_calls(exchange, 3 * MOST)
    later = [call.at for call in exchange.calls if call.at >= begin]
    assert max(sum(1 for at in later if start <= at < start + WINDOW_S) for start in later) >= 0.9 * MOST


def flush(redis: RedisServer, _: list[QuotaWorker]) -> None:
    with redis.client() as client:
        client.flushall()


def restart(redis: RedisServer, _: list[QuotaWorker]) -> None:
    redis.stop()
    time.sleep(1)
    redis.start()


def stop_for_two_seconds(redis: RedisServer, _: list[QuotaWorker]) -> None:
    redis.pause()
    time.sleep(2)
    redis.resume()


def kill_half(_: RedisServer, workers: list[QuotaWorker]) -> None:
    for worker in workers[::2]:
        worker.kill()
    del workers[::2]


@pytest.mark.parametrize("fault", [flush, restart, stop_for_two_seconds, kill_half])
def test_no_fault_brings_a_window_over_its_quota(fault: Callable[[RedisServer, list[QuotaWorker]], None]) -> None:
    """Before, during and after the fault no window is overfull; nobody hangs; the quota is used to the full again."""
    with (
        redis_server(prefix=scheduler()) as redis,
        quota_exchange() as exchange,
        quota_workers(jobs(redis.dsn, exchange), scheduler()) as workers,
    ):
        wait_for_calls(exchange, 2 * MOST + MOST // 2)
        left = list(workers)
        fault(redis, left)
        used_to_the_full(exchange)
        tallies = [worker.finish() for worker in left]
        assert all(tally["grants"] > 0 for tally in tallies)
        assert exchange.fullest(WINDOW_S) <= MOST


def test_nothing_is_sent_inside_a_penalty_by_any_process() -> None:
    """One process hears of a pause of 3 s: all stop, all go on afterwards, no window is overfull."""
    with (
        redis_server(prefix=scheduler()) as redis,
        quota_exchange() as exchange,
        quota_workers(jobs(redis.dsn, exchange, tasks=1), scheduler()) as workers,
    ):
        wait_for_calls(exchange, 2 * MOST)
        wait_until_all_sleep(redis)
        penalise(redis.dsn, 3)
        told = time.time()
        used_to_the_full(exchange)
        for worker in workers:
            worker.finish()
        # The pause began while `penalise` ran, so it ends less than 3 s after that returned.
        assert exchange.between(told, told + 2.5) == []
        assert exchange.fullest(WINDOW_S) <= MOST


@pytest.mark.parametrize("way", ["cut", "swallow"])
def test_servers_cut_off_from_redis_bring_no_window_over_its_quota(way: str) -> None:
    """Half of the processes lose their way to Redis for two seconds, by broken connections or by silence."""
    half = PROCESSES // 2
    with redis_server(prefix=scheduler()) as redis, quota_exchange() as exchange, redis_proxy(redis.port) as proxy:
        direct, cut_off = jobs(redis.dsn, exchange, count=half), jobs(proxy.dsn, exchange)[half:]
        with quota_workers([*direct, *cut_off], scheduler()) as workers:
            wait_for_calls(exchange, 2 * MOST + MOST // 2)
            getattr(proxy, way)()
            time.sleep(2)
            proxy.restore()
            used_to_the_full(exchange)
            tallies = [worker.finish() for worker in workers]
            seen = {call.who for call in exchange.calls[-MOST:]}
        assert sum(tally["refused"] for tally in tallies[half:]) > 0
        assert seen == {f"p{number}" for number in range(PROCESSES)}
        assert exchange.fullest(WINDOW_S) <= MOST


@pytest.mark.parametrize("loses_state", [True, False])
def test_without_redis_shares_are_used_and_never_more_than_the_quota(loses_state: bool) -> None:
    """Redis is away for ten seconds, killed or stopped: shares are used, and after it the whole quota again."""
    with (
        redis_server(prefix=scheduler()) as redis,
        quota_exchange() as exchange,
        quota_workers(jobs(redis.dsn, exchange, quota=SHARES), scheduler()) as workers,
    ):
        wait_for_calls(exchange, 2 * MOST)
        if loses_state:
            redis.stop()
        else:
            redis.pause()
        away_at = time.time()
        time.sleep(10)
        back_at = time.time()
        if loses_state:
            redis.start()
        else:
            redis.resume()
        used_to_the_full(exchange)
        tallies = [worker.finish() for worker in workers]
        assert {call.who for call in exchange.between(away_at + 4, back_at)} == {worker.name for worker in workers}
        assert [tally["refused"] for tally in tallies] == [0] * PROCESSES
        assert exchange.fullest(WINDOW_S) <= MOST


def test_without_redis_from_the_start_shares_are_used() -> None:
    with redis_server(prefix=scheduler()) as redis, quota_exchange() as exchange:
        redis.stop()
        with quota_workers(jobs(redis.dsn, exchange, quota=SHARES), scheduler()) as workers:
            wait_for_calls(exchange, MOST)
            redis.start()
            used_to_the_full(exchange)
            assert [worker.finish()["refused"] for worker in workers] == [0] * PROCESSES
        assert exchange.fullest(WINDOW_S) <= MOST
