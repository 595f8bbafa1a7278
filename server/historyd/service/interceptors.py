"""What surrounds every RPC: errors become statuses, and the call is counted and logged.

Wraps the plain coroutines of `history_service` into gRPC method handlers. A handler that streams is a coroutine that
is given `write`, not an async generator: so a client that goes away cancels it at once, in its own task, and what it
holds is closed before the call is over.
Promises: CancelledError passes through (and is logged as CANCELLED); every other exception ends the call with a
google.rpc.Status. Never does: look into requests, beyond their `series` or `exchange` for the log.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from grpc_status import rpc_status

from historyd.errors import HistoryError
from historyd.service.status import status_of, status_of_incident

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.rpc import status_pb2

    from historyd.service.calls import Call, Calls

    Context = grpc.aio.ServicerContext[Any, Any]

log: Final = logging.getLogger(__name__)

Unary: TypeAlias = "Callable[[Any, Call], Awaitable[Any]]"
"""An RPC that answers once: takes the request, returns the answer, raises HistoryError."""
Stream: TypeAlias = "Callable[[Any, Callable[[Any], Awaitable[None]], Call], Awaitable[None]]"
"""An RPC that answers with a stream: takes the request, writes the answers in order, raises HistoryError."""


def unary(name: str, method: Unary, calls: Calls) -> Callable[[Any, Context], Awaitable[Any]]:
    """The gRPC handler of an RPC that answers once."""

    async def handle(request: Any, context: Context) -> Any:
        call = calls.begin(name, _subject(request), context.time_remaining())
        try:
            return await method(request, call)
        except asyncio.CancelledError:
            call.status = "CANCELLED"
            raise
        except Exception as error:  # noqa: BLE001 -- whatever it is, it must not reach a client as it is
            failure = _explain(call, error)
        finally:
            calls.end(call)
        return await _abort(context, failure)

    return handle


def stream(name: str, method: Stream, calls: Calls) -> Callable[[Any, Context], Awaitable[None]]:
    """The gRPC handler of an RPC that answers with a stream."""

    async def handle(request: Any, context: Context) -> None:
        call = calls.begin(name, _subject(request), context.time_remaining())
        try:
            return await method(request, context.write, call)
        except asyncio.CancelledError:
            call.status = "CANCELLED"
            raise
        except grpc.aio.InternalError as gone:
            # A write that is under way when the client goes fails, and that is seen before gRPC cancels this task.
            call.status = "CANCELLED"
            raise asyncio.CancelledError from gone
        except Exception as error:  # noqa: BLE001 -- whatever it is, it must not reach a client as it is
            failure = _explain(call, error)
        finally:
            calls.end(call)
        return await _abort(context, failure)

    return handle


def _explain(call: Call, error: Exception) -> status_pb2.Status:
    """The status for an error, noted in the call too."""
    if isinstance(error, HistoryError):
        call.status = error.reason
        log.debug("%s failed", call.method, exc_info=error)
        return status_of(error)
    call.status = "INTERNAL"
    incident = secrets.token_hex(6)
    log.error("incident %s in %s", incident, call.method, exc_info=error)
    return status_of_incident(incident)


def _subject(request: Any) -> str:
    """What a request is about: the name of a series or an exchange, or a pattern."""
    for name in ("series", "exchange", "pattern"):
        value = getattr(request, name, None)
        if isinstance(value, str):
            return value
    return ""


async def abort(context: Context, error: HistoryError) -> None:
    """Ends a call that did not come to its method."""
    await _abort(context, status_of(error))


async def _abort(context: Context, failure: status_pb2.Status) -> None:
    """Ends the call with a status; raises, as gRPC wants it."""
    await context.abort_with_status(rpc_status.to_status(failure))
