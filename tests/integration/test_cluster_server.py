"""A whole server that shares its quota through Redis: what it does with Redis, without it, and when it goes away."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa
import pytest

from benchmarks.rig.history import loopback_exchange
from benchmarks.rig.redis_server import redis_server
from historyd import app
from historyd.config import Config
from historyd.config_errors import ConfigError
from historyd.engine.events import EnsureProgress, EnsureResult, ReadRequest
from historyd.errors import QuotaUnavailable
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.wait import WaitCause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from historyd.engine.history import HistoryEngine

SERIES = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")
START_OF_2024 = 1_704_067_200_000_000
HOUR = 3_600_000_000
QUOTA: dict[str, Any] = {"scope": "cluster", "tokens_per_interval": 20, "interval_ms": 1_000, "max_concurrency": 4}


@pytest.fixture(scope="module")
def exchange() -> Iterator[str]:
    with loopback_exchange() as url:
        yield url


def config(store: Path, url: str, **rate_limiter: object) -> Config:
    exchanges = {"binance": {"base_url": url, "rate_limiter": {**QUOTA, **rate_limiter}}}
    return Config.model_validate({"store": {"embedded": {"path": store}}, "exchanges": exchanges})


def hours(first: int, count: int) -> TimeRange:
    return TimeRange(START_OF_2024 + first * HOUR, START_OF_2024 + (first + count) * HOUR)


async def ensure(engine: HistoryEngine, window: TimeRange) -> list[Any]:
    events = [event async for event in engine.ensure(SERIES, window)]
    assert isinstance(events[-1], EnsureResult)
    assert events[-1].uncovered == ()
    return events


async def rows(engine: HistoryEngine, window: TimeRange) -> int:
    events = [event async for event in engine.read(ReadRequest(SERIES, window))]
    return sum(event.num_rows for event in events if isinstance(event, pa.RecordBatch))


async def test_two_servers_fill_their_stores_under_one_quota(tmp_path: Path, exchange: str) -> None:
    """Each has its own store; the quota is one, and callers are told that they wait for it."""
    with redis_server() as redis:
        async with (
            app.open_engine(config(tmp_path / "one.db", exchange, redis_dsn=redis.dsn)) as one,
            app.open_engine(config(tmp_path / "two.db", exchange, redis_dsn=redis.dsn)) as two,
        ):
            events = await ensure_once_it_can(one, hours(0, 5))
            await ensure_once_it_can(two, hours(0, 5))
            assert await rows(one, hours(0, 5)) == await rows(two, hours(0, 5)) == 300
            with redis.client() as client:
                assert [name for name in client.keys("rl:*") if b":log:" in name] == [b"rl:{ccxt:binance}:log:0"]
                assert client.keys("lease:*") == []
    waits = [event.wait for event in events if isinstance(event, EnsureProgress) and event.wait is not None]
    assert {wait.cause for wait in waits} <= {WaitCause.QUOTA}


async def test_when_redis_goes_away_only_what_is_missing_is_refused(tmp_path: Path, exchange: str) -> None:
    """Covered reads go on; an ensure of more fails soon, with an error of its own; later it is served again."""
    with redis_server() as redis:
        async with app.open_engine(config(tmp_path / "one.db", exchange, redis_dsn=redis.dsn)) as engine:
            await ensure_once_it_can(engine, hours(0, 5))
            redis.stop()
            assert await rows(engine, hours(0, 5)) == 300
            await ensure(engine, hours(0, 5))
            begin = time.monotonic()
            with pytest.raises(QuotaUnavailable) as refused:
                await ensure(engine, hours(1_000, 5))
            assert time.monotonic() - begin < 3
            assert refused.value.metadata == {"key": "ccxt:binance"}
            redis.start()
            await ensure_once_it_can(engine, hours(1_000, 5))


async def test_a_server_starts_without_redis_and_serves_what_it_has(tmp_path: Path, exchange: str) -> None:
    with redis_server() as redis:
        settings = config(tmp_path / "one.db", exchange, redis_dsn=redis.dsn)
        async with app.open_engine(settings) as engine:
            await ensure_once_it_can(engine, hours(0, 5))
    async with app.open_engine(settings) as engine:
        assert await rows(engine, hours(0, 5)) == 300
        with pytest.raises(QuotaUnavailable):
            await ensure(engine, hours(1_000, 5))


async def ensure_once_it_can(engine: HistoryEngine, window: TimeRange) -> list[Any]:
    """Also on a machine that stalls for longer than Redis may take to answer."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return await ensure(engine, window)
        except QuotaUnavailable:
            continue
    raise AssertionError("it is never served again")


def test_a_senseless_dsn_stops_the_start_and_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        app.check_exchanges(config(tmp_path / "one.db", "http://127.0.0.1:1", redis_dsn="redis//:hush@host"))
    assert "redis_dsn cannot be read" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_without_the_driver_scope_cluster_stops_the_start(tmp_path: Path) -> None:
    with (
        patch.object(app, "find_spec", lambda name: None if name == "redis" else object()),
        pytest.raises(ConfigError, match=r"historyd\[redis\]"),
    ):
        app.check_exchanges(config(tmp_path / "one.db", "http://127.0.0.1:1"))


async def test_a_deaf_redis_keeps_nobody_waiting(tmp_path: Path, exchange: str) -> None:
    """It takes connections and never answers: the ensure fails soon."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        dsn = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        async with app.open_engine(config(tmp_path / "one.db", exchange, redis_dsn=dsn)) as engine:
            begin = time.monotonic()
            with pytest.raises(QuotaUnavailable):
                await ensure(engine, hours(0, 5))
            assert time.monotonic() - begin < 5
