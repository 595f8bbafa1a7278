"""Who may ask: whether the port speaks TLS (tls.py), and the tokens that calls must carry.

With tokens, every call needs `authorization: Bearer TOKEN` in its metadata, Flight's too. Free are health checks, so
that what watches a server needs no secret, and reflection, which tells the contract that everybody can read anyway.
Promises: a token is compared in the same time whatever is wrong with it, and neither kept nor logged as it is.
Never does: read a configuration, or decide what a caller may do: who may ask may ask for everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health

from historyd.errors import Unauthenticated
from historyd.service.interceptors import abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from historyd.service.calls import Calls
    from historyd.service.tls import Tls

    Handler = grpc.RpcMethodHandler[Any, Any]

_FREE: Final = (f"/{health.SERVICE_NAME}/", "/grpc.reflection.")  # of each version: clients ask for the newest first
_SCHEME: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Access:
    """How the port is reached; the default is plain and open."""

    tls: Tls | None = None
    tokens: tuple[str, ...] = field(default=(), repr=False)

    def warnings(self, listen: str) -> Iterable[str]:
        """What whoever runs the server should know if it listens on `HOST:PORT`."""
        if _is_loopback(listen.rpartition(":")[0]):
            return
        if not self.tokens and not (self.tls and self.tls.asks_clients):
            yield f"{listen} is open to whoever reaches it: set tokens, or listen on 127.0.0.1"
        elif self.tls is None:
            yield f"{listen} has tokens but no TLS: whoever sees the traffic can read them"


class TokenCheck(grpc.aio.ServerInterceptor):
    """Lets no call through that lacks a token."""

    def __init__(self, tokens: Iterable[str], calls: Calls) -> None:
        self._digests = [_digest(token) for token in tokens]
        self._calls = calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The call's own handler, or one that refuses it."""
        method = handler_call_details.method or ""
        if method.startswith(_FREE):
            return await continuation(handler_call_details)
        problem = self._problem(handler_call_details.invocation_metadata or ())
        if problem is None:
            return await continuation(handler_call_details)
        return self._refusal(method, Unauthenticated(problem))

    def _problem(self, metadata: Iterable[Any]) -> str | None:
        given = [value for key, value in metadata if key == "authorization"]
        if not given:
            return "missing"
        text = str(given[0])
        if not text.lower().startswith(_SCHEME):
            return "not a bearer token"
        digest = _digest(text[len(_SCHEME) :].strip())
        # All are compared, so that the time does not tell which one was near.
        return None if sum(compare_digest(digest, known) for known in self._digests) else "wrong token"

    def _refusal(self, method: str, error: Unauthenticated) -> Handler:
        async def refuse(_: Any, context: Any) -> None:
            call = self._calls.begin(method.rpartition("/")[2], "")
            call.status = error.reason
            self._calls.end(call)
            await abort(context, error)

        # Of the most general kind: it fits each call, and reads nothing of it.
        return grpc.stream_stream_rpc_method_handler(refuse)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
