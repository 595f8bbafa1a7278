"""The health check of the container, against a real gRPC server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from historyd import healthcheck

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def served() -> Iterator[tuple[health.HealthServicer, str]]:
    servicer = health.HealthServicer()
    with ThreadPoolExecutor(max_workers=1) as pool:
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, f"127.0.0.1:{port}"
        server.stop(grace=None).wait()


def test_a_serving_server_is_healthy(
    served: tuple[health.HealthServicer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["healthcheck", served[1]])
    assert healthcheck.main() == 0


def test_a_draining_server_is_not(
    served: tuple[health.HealthServicer, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servicer, target = served
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    monkeypatch.setattr("sys.argv", ["healthcheck", target])
    assert healthcheck.main() == 1
    assert capsys.readouterr().err == f"{target} says NOT_SERVING\n"


def test_a_server_that_is_not_there_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Port 1 is reserved and refuses.
    monkeypatch.setattr("sys.argv", ["healthcheck", "127.0.0.1:1"])
    assert healthcheck.main() == 1
    assert capsys.readouterr().err == "no answer from 127.0.0.1:1: UNAVAILABLE\n"
