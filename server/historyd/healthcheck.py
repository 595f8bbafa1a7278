"""Asks a running server whether it serves: `python -m historyd.healthcheck [HOST:PORT [CA]]`, for containers.

With CA, a file in PEM of whom to trust, it speaks TLS. It needs no token.
Ends 0 if grpc.health.v1 answers SERVING within two seconds, 1 with one line on stderr if it does not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

DEADLINE_S = 2.0


def check(target: str, authority: Path | None = None) -> str | None:
    """Why the server at `target` does not serve; None if it does. Raises OSError if `authority` cannot be read."""
    with _channel(target, authority) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        except grpc.RpcError as error:
            return f"no answer from {target}: {error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return f"{target} says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


def _channel(target: str, authority: Path | None) -> grpc.Channel:
    if authority is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(authority.read_bytes()))


def main() -> int:
    """Checks the server named on the command line, or the one on the usual port; returns the exit code."""
    target, authority, *_ = [*sys.argv[1:], *["127.0.0.1:50051", ""][len(sys.argv[1:]) :]]
    fault = check(target, Path(authority) if authority else None)
    if fault is not None:
        print(fault, file=sys.stderr)  # noqa: T201 - a container's log wants this line
    return int(fault is not None)


if __name__ == "__main__":
    sys.exit(main())
