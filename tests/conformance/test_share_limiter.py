"""A limiter that goes on with its server's share while the ledger is away: the real scripts, in virtual time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.rig.redis_server import redis_server
from historyd.errors import QuotaUnavailable, RateLimited, WaitTooLong
from historyd.ratelimit.base import Cost
from historyd.ratelimit.cluster import ClusterLimiter
from historyd.ratelimit.errands import Errands
from historyd.ratelimit.share import NOTICE_S, ShareLimiter
from tests.conformance.limiter_rig import SECOND, Waits, in_seconds, options, settle, timing
from tests.conformance.sends import Sends
from tests.conformance.virtual_time import now_us, run_virtually
from tests.virtual_redis import VirtualLedger, VirtualScripts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from historyd.ratelimit.options import RateLimiterOptions

TWENTY: dict[str, Any] = {"tokens_per_interval": 20, "interval_ms": 1_000, "local_semaphore": 4}
HOLD = 1.01 + NOTICE_S
"""Seconds from when the ledger is seen to be away until shares are used, with a window of a second."""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with redis_server() as server, server.client() as client:
        yield client


class Cluster:
    """Servers that share a quota, each with a ledger that can go away."""

    def __init__(self, client: Any, servers: int, given: RateLimiterOptions) -> None:
        budget, peers = given.budget(), list[VirtualLedger]()
        scripts, when = VirtualScripts(client, budget.limits), timing()
        self.ledgers = [VirtualLedger(scripts, when.clock, peers) for _ in range(servers)]
        self.limiters = [
            ShareLimiter(ClusterLimiter("k", budget, ledger, Errands(), when), ledger, when) for ledger in self.ledgers
        ]
        self.sends = Sends()

    def go(self, *, away: bool) -> None:
        for ledger in self.ledgers:
            ledger.go(away=away)

    async def call(self, number: int) -> None:
        while True:
            await self.limiters[number].acquire(Cost(), Waits())
            self.sends.add(now_us())

    def start(self, callers: int = 4) -> list[asyncio.Task[None]]:
        numbers = list(range(len(self.limiters))) * callers
        return [asyncio.create_task(self.call(number)) for number in numbers]

    def sent(self, begin_s: float, end_s: float) -> int:
        return sum(1 for at in self.sends.times if begin_s * SECOND <= at < end_s * SECOND)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), result


def sharing(replicas: int, **given: object) -> RateLimiterOptions:
    return options(scope="cluster", on_redis_down="share", expected_replicas=replicas, **(given or TWENTY))


def test_without_the_ledger_all_servers_together_stay_within_the_quota(client: Any) -> None:
    """Three servers: the whole quota; nothing for a while; 6 of 20 each; nothing for a window; the whole again."""

    async def scenario() -> None:
        cluster = Cluster(client, 3, sharing(3))
        tasks = cluster.start()
        await asyncio.sleep(5)
        cluster.go(away=True)
        await asyncio.sleep(15)
        cluster.go(away=False)
        await asyncio.sleep(10)
        await end(tasks)
        assert cluster.sent(1, 5) >= 76
        assert cluster.sent(5, 5 + HOLD) == 0
        assert cluster.sent(10, 20) == pytest.approx(180, abs=18)
        assert cluster.sent(20.001, 21) == 0
        assert cluster.sent(22, 30) >= 152
        assert [ledger.begun_anew for ledger in cluster.ledgers] == [1, 1, 1]
        assert cluster.sends.fullest(SECOND) == 20

    run_virtually(scenario)


def test_servers_that_notice_at_different_times_stay_within_the_quota(client: Any) -> None:
    """Both ways: one goes on by the ledger for two seconds more, and one finds it again half a second later."""

    async def scenario() -> None:
        cluster = Cluster(client, 3, sharing(3))
        tasks = cluster.start()
        await asyncio.sleep(5)
        for ledger, later_s in zip(cluster.ledgers, (0, 1, 1), strict=True):
            await asyncio.sleep(later_s)
            ledger.go(away=True)
        await asyncio.sleep(10)
        for ledger in cluster.ledgers:
            ledger.go(away=False)
            await asyncio.sleep(0.25)
        await asyncio.sleep(5)
        await end(tasks)
        assert cluster.sends.fullest(SECOND) == 20

    run_virtually(scenario)


def test_a_short_absence_costs_only_itself(client: Any) -> None:
    """The ledger is back before any share was used: callers go on by it at once, nothing is begun anew."""

    async def scenario() -> None:
        cluster = Cluster(client, 2, sharing(2))
        tasks = cluster.start()
        await asyncio.sleep(5)
        cluster.go(away=True)
        await asyncio.sleep(0.9)
        assert cluster.sent(5, 5.9) == 0
        cluster.go(away=False)
        await asyncio.sleep(5)
        await end(tasks)
        assert cluster.sent(5.9, 6.1) >= 15
        assert [ledger.begun_anew for ledger in cluster.ledgers] == [0, 0]
        assert cluster.sends.fullest(SECOND) == 20

    run_virtually(scenario)


@pytest.mark.parametrize(
    ("replicas", "given", "cost"),
    [
        (21, TWENTY, Cost()),
        (3, {"tokens_per_interval": 20}, Cost()),
        (2, {}, Cost(budget_ms=20)),
        (3, {"limits": [{"weight": 100, "interval_ms": 1_000}]}, Cost(weight=34)),
    ],
)
def test_what_has_no_share_is_refused_at_once(client: Any, replicas: int, given: dict[str, Any], cost: Cost) -> None:
    """A call that costs more than this server's part of a limit would take from the others'."""

    async def scenario() -> None:
        chosen = options(scope="cluster", on_redis_down="share", expected_replicas=replicas, **given)
        cluster = Cluster(client, 1, chosen)
        cluster.go(away=True)
        with pytest.raises(QuotaUnavailable, match="share"):
            await cluster.limiters[0].acquire(cost, Waits())
        assert now_us() == 0

    run_virtually(scenario)


def test_those_who_wait_for_a_share_are_told_and_go_back_to_the_ledger(client: Any) -> None:
    async def scenario() -> None:
        cluster = Cluster(client, 1, sharing(4))
        cluster.go(away=True)
        observer = Waits()
        waiting = asyncio.create_task(cluster.limiters[0].acquire(Cost(), observer))
        await asyncio.sleep(0.5)
        assert observer.told[0].until == in_seconds(HOLD)
        cluster.go(away=False)
        await waiting
        assert now_us() == pytest.approx(0.5 * SECOND, abs=2)

    run_virtually(scenario)


def test_a_deadline_before_the_first_share_is_told_at_once(client: Any) -> None:
    async def scenario() -> None:
        cluster = Cluster(client, 1, sharing(4))
        cluster.go(away=True)
        with pytest.raises(WaitTooLong) as refused:
            await cluster.limiters[0].acquire(Cost(), Waits(in_seconds(1)))
        assert refused.value.retry_after_s == pytest.approx(HOLD)
        await cluster.limiters[0].acquire(Cost(), Waits(in_seconds(HOLD + 0.01)))

    run_virtually(scenario)


def test_a_pause_heard_of_before_or_meanwhile_holds_for_shares(client: Any) -> None:
    async def scenario() -> None:
        cluster = Cluster(client, 2, sharing(2))
        one, other = cluster.limiters
        one.penalise(20)
        await settle()
        waiting = asyncio.create_task(other.acquire(Cost(), Waits()))  # so the other one hears of the pause
        await asyncio.sleep(0.1)
        cluster.go(away=True)
        await waiting
        assert now_us() == pytest.approx(20 * SECOND, abs=100_000)
        other.penalise(90)
        with pytest.raises(RateLimited):
            await other.acquire(Cost(), Waits())

    run_virtually(scenario)


def test_one_who_gives_up_waiting_for_a_share_leaves_nothing_behind(client: Any) -> None:
    async def scenario() -> None:
        cluster = Cluster(client, 1, sharing(20))  # one call a second
        (limiter,) = cluster.limiters
        cluster.go(away=True)
        await limiter.acquire(Cost(), Waits())
        first = now_us()
        waiting = [asyncio.create_task(limiter.acquire(Cost(), Waits())) for _ in range(3)]
        await asyncio.sleep(0.5)
        await end(waiting)
        await limiter.acquire(Cost(), Waits())
        assert now_us() - first == pytest.approx(1_010_000, abs=2)

    run_virtually(scenario)


def test_what_was_to_be_handed_back_is_handed_back_once_the_ledger_is_back(client: Any) -> None:
    """A caller's booking is void when the ledger goes away; it is not waited behind for ever after."""

    async def scenario() -> None:
        cluster = Cluster(client, 1, sharing(1, limits=[{"calls": 1, "interval_ms": 1_000}], local_semaphore=4))
        (limiter,) = cluster.limiters
        await limiter.acquire(Cost(), Waits())
        waiting = [asyncio.create_task(limiter.acquire(Cost(), Waits())) for _ in range(4)]
        await settle()
        cluster.go(away=True)
        await settle()
        cluster.go(away=False)
        await asyncio.gather(*waiting)
        assert now_us() == pytest.approx(4 * 1_010_000, abs=10)

    run_virtually(scenario)
