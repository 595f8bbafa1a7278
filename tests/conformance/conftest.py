"""Every store and every limiter in turn, for the tests of what all of them promise."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.rig.redis_server import redis_server
from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores.embedded import open_embedded
from historyd.stores.questdb import open_questdb
from tests.conformance.limiter_rig import one_in_cluster, one_local, shared_in_process
from tests.rows import BTC, BTC_TRADES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from historyd.ratelimit.base import Limiter
    from historyd.stores.base import Store
    from tests.questdb_server import QuestDb

    Opener = Callable[[], AbstractAsyncContextManager[Store]]

ORIGIN = Origin("api.binance.com")


@pytest.fixture(params=["embedded", "questdb"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Each store in turn, empty."""
    if request.param == "embedded":
        return partial(open_embedded, tmp_path / "store.db")
    questdb: QuestDb = request.getfixturevalue("questdb")
    return partial(open_questdb, questdb.options())


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    """With a series of bars and one of trades ready to be written."""
    async with opener() as opened:
        for series in (BTC, BTC_TRADES):
            await opened.open_series(series, ORIGIN, Layout(1000))
        yield opened


@pytest.fixture(scope="module")
def redis_client() -> Iterator[Any]:
    with redis_server() as server, server.client() as client:
        yield client


@pytest.fixture(params=["local", "process", "cluster"])
def make(request: pytest.FixtureRequest) -> Callable[..., list[Limiter]]:
    """Makes several holders of one key, all in one process."""
    if request.param == "cluster":
        return partial(one_in_cluster, request.getfixturevalue("redis_client"), True)
    return one_local if request.param == "local" else shared_in_process


@pytest.fixture(params=["local", "process", "cluster", "processes"])
def make_anywhere(request: pytest.FixtureRequest) -> Callable[..., list[Limiter]]:
    """Makes several holders of one key; in a cluster, in one process or in one each."""
    if request.param in ("cluster", "processes"):
        return partial(one_in_cluster, request.getfixturevalue("redis_client"), request.param == "cluster")
    return one_local if request.param == "local" else shared_in_process
