"""Fixtures of the end-to-end tests: see `serving.py` for what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from historyd.demo.exchange import LoopbackExchange, serve_exchange
from tests.e2e.serving import Serving, serve_process
from tests.e2e.whole import in_questdb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def exchange() -> AsyncIterator[LoopbackExchange]:
    """An exchange on loopback that speaks Binance's dialect."""
    async with serve_exchange() as running:
        yield running


@pytest.fixture(params=["embedded", "questdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The configuration of each store in turn, empty."""
    if request.param == "embedded":
        return {"embedded": {"path": str(tmp_path / "history.db")}}
    return in_questdb(request.getfixturevalue("questdb"))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """`historyd serve` without a configuration, in a directory of its own."""
    async with serve_process(tmp_path) as serving:
        yield serving


@pytest.fixture
async def connected(tmp_path: Path, exchange: LoopbackExchange) -> AsyncIterator[Serving]:
    """`historyd serve` whose Binance is the loopback exchange."""
    (tmp_path / "historyd.yaml").write_text(f"exchanges: {{binance: {{base_url: '{exchange.url}'}}}}\n")
    async with serve_process(tmp_path, "--config", "historyd.yaml") as serving:
        yield serving
