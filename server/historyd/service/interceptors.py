"""What surrounds every RPC: errors become statuses, and one line goes to the access log.

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
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grpc_status import rpc_status

from historyd.errors import HistoryError
from historyd.service.status import status_of, status_of_incident

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import grpc
    from google.rpc import status_pb2

    Context = grpc.aio.ServicerContext[Any, Any]

access_log: Final = logging.getLogger("historyd.access")
log: Final = logging.getLogger(__name__)

Unary: TypeAlias = "Callable[[Any, Call], Awaitable[Any]]"
"""An RPC that answers once: takes the request, returns the answer, raises HistoryError."""
Stream: TypeAlias = "Callable[[Any, Callable[[Any], Awaitable[None]], Call], Awaitable[None]]"
"""An RPC that answers with a stream: takes the request, writes the answers in order, raises HistoryError."""


@dataclass(slots=True)
class Call:
    """One call under way: what the access log says of it. Handlers set `rows`."""

    method: str
    subject: str
    rows: int = 0
    code: str = "OK"
    failure: status_pb2.Status | None = None
    began: float = field(default_factory=time.perf_counter)


class CallCounter:
    """Counts the calls under way, so that a drain knows when the last one has ended."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One call is under way within this block."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._idle.set()

    async def idle(self) -> None:
        """Returns once no call is under way."""
        await self._idle.wait()


def unary(name: str, method: Unary, calls: CallCounter) -> Callable[[Any, Context], Awaitable[Any]]:
    """The gRPC handler of an RPC that answers once."""

    async def handle(request: Any, context: Context) -> Any:
        call = Call(name, _subject(request))
        response = None
        with calls.counted(), _watched(call):
            response = await method(request, call)
        return response if call.failure is None else await _abort(context, call.failure)

    return handle


def stream(name: str, method: Stream, calls: CallCounter) -> Callable[[Any, Context], Awaitable[None]]:
    """The gRPC handler of an RPC that answers with a stream."""

    async def handle(request: Any, context: Context) -> None:
        call = Call(name, _subject(request))
        with calls.counted(), _watched(call):
            await method(request, context.write, call)
        if call.failure is not None:
            await _abort(context, call.failure)

    return handle


@contextmanager
def _watched(call: Call) -> Iterator[None]:
    """Turns what is raised within into `call.failure`, and logs the call once it is over."""
    try:
        yield
    except asyncio.CancelledError:
        call.code = "CANCELLED"
        raise
    except HistoryError as error:
        call.failure = status_of(error)
        call.code = error.reason
        log.debug("%s failed", call.method, exc_info=error)
    except Exception as error:
        incident = secrets.token_hex(6)
        call.failure = status_of_incident(incident)
        call.code = "INTERNAL"
        log.error("incident %s in %s", incident, call.method, exc_info=error)  # noqa: TRY400 -- with its traceback
    finally:
        _log_access(call)


def _log_access(call: Call) -> None:
    if not access_log.isEnabledFor(logging.INFO):
        return
    told = {
        "method": call.method,
        "series": call.subject,
        "status": call.code,
        "ms": f"{(time.perf_counter() - call.began) * 1000:.3f}",
        "rows": call.rows,
    }
    access_log.info("call", extra={"fields": told})


def _subject(request: Any) -> str:
    """What a request is about: the name of a series or an exchange, or a pattern."""
    for name in ("series", "exchange", "pattern"):
        value = getattr(request, name, None)
        if isinstance(value, str):
            return value
    return ""


async def _abort(context: Context, failure: status_pb2.Status) -> None:
    """Ends the call with a status; raises, as gRPC wants it."""
    await context.abort_with_status(rpc_status.to_status(failure))
