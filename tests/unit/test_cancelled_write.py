"""A client that goes while a message is being written to it: a cancelled call, not a defect of the server."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from historyd.service.calls import Calls
from historyd.service.interceptors import stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class GoneClient:
    """As much of a call's context as a write needs, after its client has gone; the error is gRPC's own."""

    def time_remaining(self) -> None:
        """It has set no deadline."""

    async def write(self, _message: object) -> None:
        raise grpc.aio.InternalError("Failed execute_batch")


async def test_a_write_to_a_client_that_has_gone_cancels_the_call(caplog: pytest.LogCaptureFixture) -> None:
    cleaned = []

    async def method(_request: Any, write: Callable[[Any], Awaitable[None]], _call: object) -> None:
        try:
            await write(b"rows")
        finally:
            cleaned.append(True)

    calls = Calls()
    handle = stream("ReadRange", method, calls)
    with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
        await handle(SimpleNamespace(series="any"), GoneClient())  # type: ignore[arg-type] # the part that is used
    with caplog.at_level(logging.INFO):
        calls.flush()
    (record,) = caplog.records
    assert vars(record)["fields"]["status"] == "CANCELLED"
    assert cleaned == [True]
