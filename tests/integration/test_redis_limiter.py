"""The limiter of a cluster on a real Redis as users run it: away, with a password, used by others, left by callers."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import time
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from benchmarks.rig.redis_server import RedisServer, redis_server
from historyd.errors import QuotaUnavailable, RateLimited
from historyd.ratelimit.base import Cost
from historyd.ratelimit.link import Link, check_dsn, resolve_dsn
from historyd.ratelimit.options import RateLimiterOptions
from historyd.ratelimit.redis import redis_keys
from tests.cluster_limiters import cluster_limiters
from tests.limiters import RecordingObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from historyd.ratelimit.base import Limiter
    from historyd.ratelimit.budget import Budget

BOUND_S = 2.0
"""What callers may take to hear that Redis is away; half a second on a machine that has nothing else to do."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def dsn(redis: RedisServer) -> str:
    with redis.client() as client:
        client.flushall()
    return redis.dsn


def budget(**given: object) -> Budget:
    return RateLimiterOptions.model_validate(given or {"tokens_per_interval": 5, "interval_ms": 200}).budget()


async def acquire(limiter: Limiter) -> RecordingObserver:
    observer = RecordingObserver()
    await limiter.acquire(Cost(), observer)
    return observer


async def acquire_once_it_can(limiter: Limiter) -> None:
    while True:
        try:
            await acquire(limiter)
        except QuotaUnavailable:
            await asyncio.sleep(0.02)
        else:
            return


def bookings(redis: RedisServer, key: str = "k") -> int:
    with redis.client() as client:
        return int(client.zcard(redis_keys(key, budget().limits)[1]))


async def test_a_fresh_state_is_held_for_a_window(redis: RedisServer, dsn: str) -> None:
    """What was sent before the state was lost is not known: the first call waits for a window and its margin."""
    async with cluster_limiters(answer_s=10) as limiters:
        begin = time.monotonic()
        observer = await acquire(limiters.limiter("k", budget(), dsn))
        assert time.monotonic() - begin >= 0.2
        assert observer.waits[0].detail == "k"


async def test_two_servers_share_one_quota(redis: RedisServer, dsn: str) -> None:
    sends = []
    async with cluster_limiters(answer_s=10) as one, cluster_limiters(answer_s=10) as other:
        holders = [one.limiter("k", budget(), dsn), other.limiter("k", budget(), dsn)]

        async def call(limiter: Limiter) -> None:
            for _ in range(8):
                await acquire(limiter)
                sends.append(time.monotonic())

        await asyncio.gather(*map(call, holders))
    assert len(sends) == 16
    assert bookings(redis) <= 10
    # Sixteen calls at five per 0.2 s: the last cannot be before the third window is over.
    assert sends[-1] - sends[0] >= 0.6


async def test_two_databases_of_one_redis_share_nothing(redis: RedisServer, dsn: str) -> None:
    async with cluster_limiters(answer_s=10) as limiters:
        zero = limiters.limiter("k", budget(), dsn)
        one = limiters.limiter("k", budget(), dsn.removesuffix("/0") + "/1")
        assert zero is not one
        assert limiters.limiter("k", budget(), dsn) is zero
        await acquire(zero)
        assert bookings(redis) == 1
        await acquire(one)
        assert bookings(redis) == 1
        zero.penalise(60)
        async with asyncio.timeout(20):
            for _ in range(12):
                await acquire(one)


async def test_a_password_is_used_and_a_wrong_one_is_told_as_away() -> None:
    with redis_server("--requirepass", "s3cret") as server:
        right = server.dsn.replace("redis://", "redis://:s3cret@")
        wrong = server.dsn.replace("redis://", "redis://:wr0ng@")
        async with cluster_limiters() as limiters:
            await acquire(limiters.limiter("k", budget(), right))
            with pytest.raises(QuotaUnavailable) as refused:
                await acquire(limiters.limiter("k", budget(), wrong))
        assert "wr0ng" not in str(refused.value)
        assert str(server.port) not in str(refused.value)


async def test_without_redis_callers_are_refused_soon_and_served_when_it_is_back() -> None:
    with redis_server() as server:
        async with cluster_limiters() as limiters:
            limiter = limiters.limiter("k", budget(), server.dsn)
            await acquire(limiter)
            server.stop()
            begin = time.monotonic()
            refused = await asyncio.gather(*(acquire(limiter) for _ in range(5)), return_exceptions=True)
            assert all(isinstance(error, QuotaUnavailable) for error in refused), refused
            assert time.monotonic() - begin < BOUND_S, "they were refused one after the other"
            server.start()
            async with asyncio.timeout(20):
                await acquire_once_it_can(limiter)


async def test_a_redis_that_takes_connections_but_never_answers_hangs_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        dsn = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        async with cluster_limiters() as limiters:
            begin = time.monotonic()
            with pytest.raises(QuotaUnavailable):
                await acquire(limiters.limiter("k", budget(), dsn))
            assert time.monotonic() - begin < BOUND_S


async def test_a_redis_that_stops_answering_refuses_all_who_wait_within_one_answer_time() -> None:
    """Ten callers in line for one place: the first one to be given up ends the wait of all."""
    with redis_server() as server:
        async with cluster_limiters() as limiters:
            limiter = limiters.limiter("k", budget(), server.dsn)
            await acquire(limiter)
            server.pause()
            begin = time.monotonic()
            refused = await asyncio.gather(*(acquire(limiter) for _ in range(10)), return_exceptions=True)
            assert all(isinstance(error, QuotaUnavailable) for error in refused), refused
            assert time.monotonic() - begin < BOUND_S
            server.resume()
            async with asyncio.timeout(20):
                await acquire_once_it_can(limiter)


async def test_a_process_that_stands_still_does_not_take_that_for_a_redis_that_is_away(
    redis: RedisServer, dsn: str
) -> None:
    """Its event loop is busy for longer than Redis may take to answer, just while the answer is under way."""
    async with cluster_limiters(answer_s=0.3) as limiters:
        limiter = limiters.limiter("k", budget(), dsn)
        await acquire_once_it_can(limiter)
        for _ in range(3):
            asking = asyncio.create_task(acquire(limiter))
            for _ in range(4):
                await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 -- that is what is tested
            await asking


async def test_a_server_that_shares_the_quota_out_notices_a_silent_redis_in_its_sleep() -> None:
    """Else it would use what it had booked, long after the others have gone over to their shares."""
    options = {"tokens_per_interval": 1, "interval_ms": 30_000, "scope": "cluster"}
    shares = budget(**options, on_redis_down="share", expected_replicas=1)
    with redis_server() as server:
        async with cluster_limiters() as limiters:
            observer = RecordingObserver()
            limiter = limiters.limiter("k", shares, server.dsn)
            waiting = asyncio.create_task(limiter.acquire(Cost(), observer))
            await until(lambda: len(observer.waits) == 1)  # a fresh state is held for half a minute
            server.pause()
            await until(lambda: len(observer.waits) == 2)
            assert observer.waits[1].until > observer.waits[0].until
            waiting.cancel()
            await asyncio.wait([waiting])


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 -- a list of waits tells nobody that it grew
            await asyncio.sleep(0.01)


async def test_a_cancelled_caller_leaves_no_booking(redis: RedisServer, dsn: str) -> None:
    """Whether it slept, stood in line, or its request was under way."""
    slow = budget(tokens_per_interval=1, interval_ms=60_000, local_semaphore=3)
    async with cluster_limiters(answer_s=10) as limiters:
        limiter = limiters.limiter("k", slow, dsn)
        tasks = [asyncio.create_task(acquire(limiter)) for _ in range(6)]
        await asyncio.sleep(0.3)
        late = [asyncio.create_task(acquire(limiter)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in (*tasks, *late):
            task.cancel()
        await asyncio.wait([*tasks, *late])
    assert bookings(redis) == 0


async def test_servers_that_disagree_on_the_quota_are_told(redis: RedisServer, dsn: str) -> None:
    """The second setting is refused while the first is in use, and taken over once nobody used it for a window."""
    async with cluster_limiters(answer_s=10) as one, cluster_limiters(answer_s=10) as other:
        await acquire(one.limiter("k", budget(), dsn))
        different = other.limiter("k", budget(tokens_per_interval=50, interval_ms=200), dsn)
        with pytest.raises(QuotaUnavailable, match="another rate_limiter setting"):
            await acquire(different)
        async with asyncio.timeout(20):
            await acquire_once_it_can(different)


async def test_a_ban_is_heard_of_by_servers_that_start_later(redis: RedisServer, dsn: str) -> None:
    async with cluster_limiters(answer_s=10) as one:
        one.limiter("k", budget(), dsn).penalise(600)
    async with cluster_limiters(answer_s=10) as other:
        with pytest.raises(RateLimited) as refused:
            await acquire(other.limiter("k", budget(), dsn))
        assert refused.value.retry_after_s == pytest.approx(600, abs=20)


async def test_closing_at_any_moment_ends(dsn: str) -> None:
    """Just as answers come in too: no task of the driver holds up the end."""
    for turns in range(40):
        async with asyncio.timeout(20), cluster_limiters(answer_s=10) as limiters:
            limiters.limiter("k", budget(), dsn).penalise(0.001)
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_closing_leaves_no_connection(redis: RedisServer, dsn: str) -> None:
    def connected() -> int:
        with redis.client() as client:
            return len(client.client_list())

    before = connected()
    async with cluster_limiters(answer_s=10) as limiters:
        await acquire(limiters.limiter("k", budget(), dsn))
        assert connected() > before
    deadline = time.monotonic() + 10
    while connected() > before:  # Redis takes note of a closed connection a little later
        assert time.monotonic() < deadline


def test_all_keys_of_a_budget_have_one_hash_tag() -> None:
    """Whatever is in the budget's key, what Redis Cluster hashes is the same for all of its keys."""
    for key in ("ccxt:binance", "odd{key}", "}{"):
        keys = redis_keys(key, budget().limits * 2)
        assert len(set(keys)) == 3
        assert {_hashed(name) for name in keys} == {_hashed(keys[0])}
    assert redis_keys("a{", ())[0] != redis_keys("a%7B", ())[0]


def _hashed(name: str) -> str:
    """The part that Redis Cluster hashes: between the first brace and the first one that closes after it."""
    return name[name.index("{") + 1 : name.index("}", name.index("{"))]


@pytest.mark.parametrize(
    ("given", "configured", "environ", "chosen"),
    [
        ("redis://a", "redis://b", {"QMTL_CCXT_RATE_LIMITER_REDIS": "redis://c"}, "redis://a"),
        (None, "redis://b", {"QMTL_CCXT_RATE_LIMITER_REDIS": "redis://c"}, "redis://b"),
        (None, None, {"QMTL_CCXT_RATE_LIMITER_REDIS": " redis://c "}, "redis://c"),
        (None, None, {"QMTL_CCXT_RATE_LIMITER_REDIS": "  "}, "redis://localhost:6379/0"),
        (None, None, {}, "redis://localhost:6379/0"),
    ],
)
def test_where_the_state_is_follows_the_specification(
    given: str | None, configured: str | None, environ: dict[str, str], chosen: str
) -> None:
    assert resolve_dsn(given, configured, environ) == chosen


@pytest.mark.parametrize("dsn", ["localhost:6379", "http://localhost", "redis://:secret@host:port/0"])
def test_a_senseless_dsn_is_refused_without_being_repeated(dsn: str) -> None:
    with pytest.raises(ValueError, match="cannot be read") as refused:
        check_dsn(dsn)
    assert dsn not in str(refused.value)


def test_options_of_tls_are_passed_through() -> None:
    """What redis-py reads of a `rediss://` address reaches its connections."""
    link = Link("rediss://user:word@host:6380/3?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem")
    made = link.client.connection_pool.connection_kwargs
    assert (made["host"], made["port"], made["db"], made["username"]) == ("host", 6380, 3, "user")
    assert (made["ssl_cert_reqs"], made["ssl_ca_certs"]) == ("none", "/ca.pem")


def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    """`rediss://` reaches a Redis that speaks TLS, and no one whose certificate is not trusted."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with redis_server("--tls-port", str(port), *tls_options(tmp_path)):
        trusted = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/cert.pem"

        async def scenario() -> None:
            async with cluster_limiters(answer_s=2) as limiters:
                await acquire(limiters.limiter("k", budget(), trusted))
                with pytest.raises(QuotaUnavailable):
                    await acquire(limiters.limiter("k", budget(), trusted.partition("?")[0]))

        asyncio.run(scenario())


def tls_options(folder: Path) -> list[str]:
    """Options of a Redis that speaks TLS, with a certificate of its own making."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    paths = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *paths, *names]
    subprocess.run(command, check=True, capture_output=True)
    files = ["--tls-cert-file", f"{folder}/cert.pem", "--tls-key-file", f"{folder}/key.pem"]
    return [*files, "--tls-ca-cert-file", f"{folder}/cert.pem", "--tls-auth-clients", "no"]


def test_the_scripts_ask_nothing_of_redis_that_valkey_has_not() -> None:
    """Only commands that Redis has since 6.2 and Valkey, Dragonfly and KeyDB kept, and one hash tag's keys."""
    folders = [files("historyd.ratelimit"), files("historyd.leases")]
    texts = [file.read_text() for folder in folders for file in folder.iterdir() if file.name.endswith(".lua")]
    assert len(texts) == 8
    asked = set(re.findall(r"redis\.call\('(\w+)'", "\n".join(texts)))
    strings = {"SET", "GET", "DEL", "PTTL", "PEXPIRE", "HSET", "HMGET"}
    assert asked == strings | {"ZADD", "ZCARD", "ZINCRBY", "ZRANGE", "ZREM", "PUBLISH", "TIME"}
