"""A gRPC server around an engine: the history service, the Flight door, health, reflection, a drain that has a bound.

Promises: when `drain` returns no call is under way. During a drain health says NOT_SERVING, new calls are refused by
gRPC, ensures end at their next page boundary (the engine's promise) and reads may finish until the bound; then what
is left is cancelled. Never does: know the engine's store or source, or handle signals.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from historyd.service.access import Access, TokenCheck
from historyd.service.calls import Calls
from historyd.service.flight import door as flight
from historyd.service.flight.messages import SERVICE as FLIGHT
from historyd.service.history_service import SERVICE, handlers
from historyd.service.reflection import MemberAwarePool

if TYPE_CHECKING:
    from types import TracebackType

    from historyd.engine.history import HistoryEngine

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
    ("grpc.max_receive_message_length", 1 << 20),  # requests are small
)


class CannotListen(OSError):
    """The address cannot be listened on; the message names it."""


class HistoryServer:
    """Listens while it is open, an async context manager; leaving it stops at once what is still under way."""

    def __init__(self, engine: HistoryEngine, listen: str, access: Access | None = None) -> None:
        self._engine = engine
        self._listen = listen
        self._access = access or Access()
        self._calls = Calls()
        self._health = health.aio.HealthServicer()
        checks = [TokenCheck(self._access.tokens, self._calls)] if self._access.tokens else []
        self._server = grpc.aio.server(interceptors=checks, options=_OPTIONS)
        self._refusing: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.address = listen
        """`host:port`, with the real port once it is open."""

    async def __aenter__(self) -> Self:
        self._server.add_generic_rpc_handlers(
            (handlers(self._engine, self._calls), flight.handlers(self._engine, self._calls))
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, FLIGHT, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=MemberAwarePool())
        try:
            port = self._add_port()
        except RuntimeError:
            raise CannotListen(f"cannot listen on {self._listen}: the address is taken or not ours") from None
        self.address = f"{self._listen.rpartition(':')[0]}:{port}"
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()
        self._calls.flush()

    async def drain(self, bound_s: float) -> None:
        """Takes no new call and returns when those under way have ended, cancelling them after `bound_s` seconds."""
        await self._health.enter_graceful_shutdown()
        self._engine.drain()
        self._refusing = asyncio.create_task(self._server.stop(bound_s))
        # Health watchers never end by themselves, so it is our own calls that are waited for.
        with suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                await self._calls.idle()
        await self._stop()

    def _add_port(self) -> int:
        if self._access.tls is None:
            return self._server.add_insecure_port(self._listen)
        return self._server.add_secure_port(self._listen, self._access.tls.credentials())

    async def _stop(self) -> None:
        """Cancels all calls and returns when they have ended.

        A task of its own: a caller that is cancelled while it waits would break gRPC's shutdown for the next one.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop_everything())
        await asyncio.shield(self._stopping)

    async def _stop_everything(self) -> None:
        await self._server.stop(None)
        if self._refusing is not None:
            await self._refusing
        await self._calls.idle()  # gRPC does not wait until a handler that it cancelled has cleaned up
