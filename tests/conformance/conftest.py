"""Every store in turn, for the tests of what all stores promise."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores.embedded import open_embedded
from historyd.stores.questdb import open_questdb
from tests.rows import BTC, BTC_TRADES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from historyd.stores.base import Store
    from tests.questdb_server import QuestDb

    Opener = Callable[[], AbstractAsyncContextManager[Store]]

ORIGIN = Origin("api.binance.com")


@pytest.fixture(params=["embedded", "questdb"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Each store in turn, empty."""
    if request.param == "embedded":
        return partial(open_embedded, tmp_path / "store.db")
    questdb: QuestDb = request.getfixturevalue("questdb")
    return partial(open_questdb, questdb.options())


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    """With a series of bars and one of trades ready to be written."""
    async with opener() as opened:
        for series in (BTC, BTC_TRADES):
            await opened.open_series(series, ORIGIN, Layout(1000))
        yield opened
