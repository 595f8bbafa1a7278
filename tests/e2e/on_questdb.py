"""Servers whose store is a QuestDB, and clients of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import markethistory.aio
from tests.e2e.serving import serve_process
from tests.e2e.whole import binance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack
    from pathlib import Path

    from markethistory.aio import AsyncClient
    from tests.e2e.serving import Serving
    from tests.questdb_server import QuestDb

PAGE_BARS: Final = 60
"""A page is an hour of minutes."""


def config_of(questdb: QuestDb, url: str, prefix: str) -> dict[str, Any]:
    store = {"dsn": questdb.dsn(), "http": questdb.options().http_url, "table_prefix": prefix}
    return {"store": {"questdb": store}, "exchanges": binance(url, window_size=PAGE_BARS)}


async def started(
    stack: AsyncExitStack, directory: Path, name: str, config: Mapping[str, Any], **options: Any
) -> tuple[Serving, AsyncClient]:
    """A server process of its own and a client of it."""
    (directory / f"{name}.yaml").write_text(json.dumps(config))
    server = await stack.enter_async_context(serve_process(directory, "--config", f"{name}.yaml"))
    client = await stack.enter_async_context(markethistory.aio.connect(server.address, **options))
    return server, client
