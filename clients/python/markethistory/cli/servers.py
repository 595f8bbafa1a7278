"""The server that the commands ask: `HOST:PORT`, or `https://HOST:PORT` to speak TLS.

Secrets come from the environment, where no list of processes shows them: MARKETHISTORY_TOKEN is sent with each call.
MARKETHISTORY_CA names the file (PEM) of the authority to trust in place of the system's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from markethistory import Tls, aio, connect
from markethistory.channels import check_token
from markethistory.cli.running import WrongUsage

if TYPE_CHECKING:
    from markethistory import Client
    from markethistory.aio import AsyncClient

TOKEN: Final = "MARKETHISTORY_TOKEN"  # noqa: S105 -- the name of the variable
CA: Final = "MARKETHISTORY_CA"
_SECURE: Final = "https://"


def open_client(server: str) -> Client:
    """A synchronous client. Raises WrongUsage if the server cannot be one, OSError if the authority cannot be read."""
    return connect(_target(server), **_options(server))


def open_aio_client(server: str) -> AsyncClient:
    """A client for the running event loop; else as `open_client`."""
    return aio.connect(_target(server), **_options(server))


def _target(server: str) -> str:
    target = server.removeprefix(_SECURE).rstrip("/")
    if "/" in target:
        raise WrongUsage(f"--server: {server!r} is neither HOST:PORT nor https://HOST:PORT")
    return target


def _options(server: str) -> dict[str, Any]:
    authority = os.environ.get(CA) or None
    secure = server.startswith(_SECURE)
    if authority is not None and not secure:
        raise WrongUsage(f"{CA} is set, but {server} is asked without TLS: say https://{server}")
    tls = Tls(ca=authority) if secure else False
    token = os.environ.get(TOKEN) or None
    try:
        check_token(token, server, tls)
    except ValueError as error:
        raise WrongUsage(f"{TOKEN}: {error}: say https://{server}") from None
    return {"tls": tls, "token": token}
