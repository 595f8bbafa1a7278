"""How a server is reached: the channel's options, TLS, and the token that goes with each call."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

Metadata: TypeAlias = "tuple[tuple[str, str], ...]"

_LOOPBACK: Final = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")
OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.max_receive_message_length", -1),  # the request bounds the chunks
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that restarts is found soon
    ("grpc.min_reconnect_backoff_ms", 5000),  # in spite of its name what connecting may take, TLS among it
    ("grpc.max_reconnect_backoff_ms", 5000),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS beyond the system's own certificates; files in PEM.

    Attributes:
        ca: whom to trust in place of the system's authorities.
        certificate: this client's own, for a server that asks for one.
        key: the key of `certificate`.
        server_name: the name to expect in the server's certificate, if it is not the target's host.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """The same for gRPC. Raises OSError if a file cannot be read."""
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))

    def options(self) -> list[tuple[str, Any]]:
        """What it adds to the channel's options."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name is not None else []


def open_channel(target: str, tls: Tls | bool, options: Sequence[tuple[str, Any]]) -> grpc.Channel:  # noqa: FBT001 -- as its callers have it
    """A channel for synchronous calls. Nothing is sent yet. Raises OSError if a file of `tls` cannot be read."""
    if tls is False:
        return grpc.insecure_channel(target, options=options)
    chosen = Tls() if tls is True else tls
    return grpc.secure_channel(target, chosen.credentials(), options=[*options, *chosen.options()])


def open_aio_channel(target: str, tls: Tls | bool) -> grpc.aio.Channel:  # noqa: FBT001 -- as its callers have it
    """A channel for the running event loop; else as `open_channel`."""
    if tls is False:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    chosen = Tls() if tls is True else tls
    return grpc.aio.secure_channel(target, chosen.credentials(), options=[*OPTIONS, *chosen.options()])


def check_token(token: str | None, target: str, tls: Tls | bool) -> None:  # noqa: FBT001 -- as its callers have it
    """Raises ValueError if a token would go to another machine without TLS: anybody on the way could read it."""
    if token is not None and tls is False and not _LOOPBACK.fullmatch(target):
        raise ValueError("token: needs tls, unless the server is on this machine: anybody on the way could read it")


def metadata_of(token: str | None) -> Metadata | None:
    """What goes with each call."""
    return None if token is None else (("authorization", f"Bearer {token}"),)


def _read(file: str | Path | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()
