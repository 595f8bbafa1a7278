"""Limiters for the conformance suites, of every scope."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.rig.redis_server import redis_server
from tests.conformance.limiter_rig import one_in_cluster, one_local, shared_in_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from historyd.ratelimit.base import Limiter


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
