"""Servers for end-to-end tests: a real `historyd serve` process, or the real service on a scripted engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from historyd.service.history_service import SERVICE
from historyd.service.server import HistoryServer
from markethistory.v1.history_service_pb2_grpc import HistoryServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from historyd.engine.history import HistoryEngine
    from markethistory.v1.history_service_pb2_grpc import HistoryServiceAsyncStub

READY = b"historyd listening on "


@dataclass
class Serving:
    """A running `historyd serve`: where it listens, its process, the line that it printed."""

    address: str
    process: asyncio.subprocess.Process
    line: str
    stub: HistoryServiceAsyncStub
    channel: grpc.aio.Channel

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


def stub_of(channel: grpc.aio.Channel) -> HistoryServiceAsyncStub:
    """The generated stub, whose asynchronous twin is known to type checkers alone."""
    return HistoryServiceStub(channel)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of historyd, and with those given."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HISTORYD_")} | more


@asynccontextmanager
async def serve_process(directory: Path, *arguments: str) -> AsyncIterator[Serving]:
    """`historyd serve` in a directory of its own, on a free port, until the block ends; its log is `log` there."""
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "historyd", "serve", "--listen", "127.0.0.1:0", *arguments),
            cwd=directory,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line.startswith(READY), (line, (directory / "log").read_text())
        address = line.removeprefix(READY).partition(b",")[0].decode()
        async with grpc.aio.insecure_channel(address) as channel:
            yield Serving(address, process, line.decode().strip(), stub_of(channel), channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@dataclass
class Local:
    """The service in this process: a stub, and the server to drain."""

    stub: HistoryServiceAsyncStub
    channel: grpc.aio.Channel
    server: HistoryServer


@asynccontextmanager
async def serve_engine(engine: HistoryEngine | Any) -> AsyncIterator[Local]:
    """The real service on an engine, or on anything that is asked like one."""
    async with (
        HistoryServer(engine, "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Local(stub_of(channel), channel, server)


__all__ = ["SERVICE", "Local", "Serving", "environment", "serve_engine", "serve_process", "stub_of"]
