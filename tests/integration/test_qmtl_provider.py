"""`historyd.qmtl.CcxtQuestDBProvider`: real ccxt, engine and store in this process, against a loopback exchange."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from aiohttp import web

from historyd.demo.exchange import LoopbackExchange, serve_exchange
from historyd.errors import UnknownSymbol
from historyd.qmtl import CcxtQuestDBProvider
from historyd.qmtl.settings import default_store
from historyd.stores.questdb import open_questdb
from historyd.stores.questdb_options import QuestDbOptions, Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiohttp.typedefs import Handler

    from tests.questdb_server import QuestDb

NODE: dict[str, Any] = {"node_id": "blake3:5f0c7a1e", "interval": 60}
# 2024-01-01: far from now, so that nothing is pending.
T0 = 1_704_067_200
UNLIMITED = {"tokens_per_interval": 10_000, "interval_ms": 1000}


@pytest.fixture
def asked() -> asyncio.Event:
    """Set once the exchange was asked for something."""
    return asyncio.Event()


@pytest.fixture
async def exchange(asked: asyncio.Event) -> AsyncIterator[LoopbackExchange]:
    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked.set()
        return await handler(request)

    async with serve_exchange(middlewares=[note]) as running:
        yield running


@pytest.fixture
async def make(exchange: LoopbackExchange, tmp_path: Path) -> AsyncIterator[Callable[..., CcxtQuestDBProvider]]:
    """Makes providers on one store file; their engine is closed at the end."""
    made: list[CcxtQuestDBProvider] = []

    def provider(**config: Any) -> CcxtQuestDBProvider:
        store = {"embedded": {"path": str(tmp_path / "deep" / "q.db")}}
        limiter = {"rate_limiter": UNLIMITED}
        made.append(
            CcxtQuestDBProvider.from_config(
                {"symbols": ["BTC/USDT"], "base_url": exchange.url, "store": store, **limiter, **config}
            )
        )
        return made[-1]

    yield provider
    for one in made:
        await asyncio.to_thread(one.close)


async def test_the_specifications_quick_start_runs(exchange: LoopbackExchange, tmp_path: Path) -> None:
    """Its dictionary as it stands; added are the loopback exchange and a store file that is not the user's."""
    config = {
        "exchange": "binance",
        "symbols": ["BTC/USDT"],
        "timeframe": "1m",
        "questdb": {"dsn": "postgresql://localhost:8812/qdb", "table": "crypto_ohlcv"},
        "rate_limiter": {
            "max_concurrency": 1,
            "min_interval_s": 0.01,
            "scope": "cluster",
            "redis_dsn": "redis://localhost:6379/0",
            "burst": 1,
        },
    }
    added = {"base_url": exchange.url, "store": {"embedded": {"path": str(tmp_path / "q.db")}}}
    with pytest.warns(UserWarning, match="store and questdb|not available in this version") as caught:
        provider = CcxtQuestDBProvider.from_config({**config, **added})
    assert [(str(warning.message).partition(":")[0], warning.filename) for warning in caught] == [
        ("both store and questdb are given", __file__),
        ("rate_limiter.scope 'cluster' is not available in this version", __file__),
    ]
    # What qmtl's warm-up asks for: 120 bars, the last of them still open, both ends inclusive.
    last = int(time.time()) // 60 * 60
    first = last - 60 * 119
    await provider.ensure_range(first, last, **NODE)
    missing = [ts for ts in range(first, last + 1, 60) if not holds(await provider.coverage(**NODE), ts)]
    served = (await provider.fetch(first, last, **NODE))["ts"].to_list()
    opened = int(time.time()) // 60 * 60
    await asyncio.to_thread(provider.close)
    assert missing == []
    # The bar that closed last may not have settled yet; the one that is open is never served.
    assert served == list(range(first, served[-1] + 60, 60))
    assert last - 120 <= served[-1] < opened


async def test_rows_are_kept_in_the_questdb_that_is_named(exchange: LoopbackExchange, questdb: QuestDb) -> None:
    """As the specification's dictionary names it; what is in it is seen by looking there."""
    options = questdb.options()
    given = {"symbols": ["BTC/USDT"], "base_url": exchange.url, "rate_limiter": {"tokens_per_interval": 1_000_000}}
    named = {"dsn": options.dsn, "http": options.http, "table": options.tables.bars}
    provider = CcxtQuestDBProvider.from_config({**given, "questdb": named})
    try:
        frame = await provider.fetch(T0, T0 + 60 * 100, **NODE)
    finally:
        await asyncio.to_thread(provider.close)
    async with open_questdb(QuestDbOptions(options.dsn, options.http, Tables.of_table(options.tables.bars))) as store:
        (listed,) = await store.list_series("*", "", 9)
    assert frame.height == 100
    assert str(listed.series) == "ohlcv:binance:BTC/USDT:1m"
    assert listed.row_count >= 100


def holds(coverage: list[tuple[int, int]], ts: int) -> bool:
    return any(first <= ts <= last for first, last in coverage)


async def test_a_second_ask_makes_no_call(exchange: LoopbackExchange, make: Callable[..., CcxtQuestDBProvider]) -> None:
    provider = make()
    first = await provider.fetch(T0, T0 + 60 * 2500, **NODE)
    calls = exchange.count()
    second = await provider.fetch(T0, T0 + 60 * 2500, **NODE)
    await provider.fill_missing(T0, T0 + 60 * 2499, **NODE)
    assert first.height == 2500
    assert first.equals(second)
    assert first.schema["ts"] == pl.Int64
    assert exchange.count() == calls


async def test_coverage_is_what_was_fetched(make: Callable[..., CcxtQuestDBProvider]) -> None:
    provider = make()
    await provider.ensure_range(T0, T0 + 600, **NODE)
    assert holds(await provider.coverage(**NODE), T0)
    assert holds(await provider.coverage(**NODE), T0 + 600)
    assert not holds(await provider.coverage(**NODE), T0 + 86_400 * 30)


def test_event_loops_may_come_and_go(tmp_path: Path) -> None:
    """qmtl runs its warm-ups with asyncio.run; what is stored is served without the exchange."""
    provider = CcxtQuestDBProvider.from_config(
        {"symbols": ["BTC/USDT"], "store": {"embedded": {"path": str(tmp_path / "q.db")}}}
    )
    for _ in range(3):
        found = asyncio.run(provider.coverage(**NODE))
        assert len(found) == 1, "the bar that is open now"
    provider.close()
    provider.close()
    assert len(asyncio.run(provider.coverage(**NODE))) == 1, "a closed engine opens again"
    provider.close()


async def test_providers_of_one_file_share_an_engine_and_an_exchange_may_come_later(
    exchange: LoopbackExchange, make: Callable[..., CcxtQuestDBProvider]
) -> None:
    """The store has a single writer: a second engine on the file would be refused."""
    first = make()
    await first.fetch(T0, T0 + 60, **NODE)
    second = make(symbols=["ETH/USDT"])
    third = make(exchange="binanceus", symbols=["ETH/USDT"])
    frames = await asyncio.gather(*(provider.fetch(T0, T0 + 600, **NODE) for provider in (first, second)))
    assert [frame.height for frame in frames] == [10, 10]
    assert not holds(await third.coverage(**NODE), T0)
    assert holds(await first.coverage(**NODE), T0)


async def begun(asked: asyncio.Event, provider: CcxtQuestDBProvider) -> asyncio.Task[None]:
    """An ensure that has made its first call and waits for its second."""
    task = asyncio.create_task(provider.ensure_range(T0, T0 + 60 * 100_000, **NODE))
    await asked.wait()
    return task


async def test_a_cancelled_call_leaves_the_engine_usable(
    asked: asyncio.Event, make: Callable[..., CcxtQuestDBProvider]
) -> None:
    provider = make(rate_limiter={"min_interval_s": 300})
    task = await begun(asked, provider)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await provider.coverage(**NODE)


async def test_a_call_that_is_cancelled_while_the_engine_opens_leaves_it_usable(
    make: Callable[..., CcxtQuestDBProvider],
) -> None:
    provider = make()
    task = asyncio.create_task(provider.coverage(**NODE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await provider.coverage(**NODE)) == 1


async def test_closing_ends_calls_under_way(asked: asyncio.Event, make: Callable[..., CcxtQuestDBProvider]) -> None:
    provider = make(rate_limiter={"min_interval_s": 300})
    task = await begun(asked, provider)
    await asyncio.to_thread(provider.close)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_unknown_symbol_is_told_as_such(make: Callable[..., CcxtQuestDBProvider]) -> None:
    with pytest.raises(UnknownSymbol, match="BTC/USDT"):
        await make(symbols=["BTCUSDT"]).fetch(T0, T0 + 60, **NODE)


def test_from_config_multi_makes_one_for_each_symbol_and_timeframe(tmp_path: Path) -> None:
    made = CcxtQuestDBProvider.from_config_multi(
        {
            "exchange": "okx",
            "symbols": ["BTC/USDT", "BTC/USDT:USDT"],
            "timeframes": ["1m", "1h"],
            "store": {"embedded": {"path": str(tmp_path / "q.db")}},
        }
    )
    assert list(made) == [
        CcxtQuestDBProvider.make_node_id(exchange_id="okx", symbol=symbol, timeframe=timeframe)
        for symbol in ("BTC/USDT", "BTC/USDT:USDT")
        for timeframe in ("1m", "1h")
    ]


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"window_sise": 5}, "no such key 'window_sise'; did you mean 'window_size'"),
        ({"rate_limiter": {"tokens_per_intervall": 5}}, "rate_limiter.tokens_per_intervall: there is no such key"),
        ({"rate_limiter": {"scope": "proces"}}, "did you mean 'process'"),
        ({"max_retries": 0}, "max_retries: "),
        ({"exchange": "binanse"}, "exchanges.binanse: CCXT has no such exchange; did you mean"),
        ({"questdb": {"dns": "x"}}, "no such key 'dns'; did you mean 'dsn'"),
        ({"store": {"embeded": {}}}, "embeded: there is no such key"),
        ({"base_url": "binance.com"}, "base_url: "),
    ],
)
def test_a_wrong_dictionary_is_refused_naming_the_key(config: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        CcxtQuestDBProvider.from_config({"symbols": ["BTC/USDT"], **config})


def test_rows_go_to_the_users_data_directory_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_store() == tmp_path / "markethistory" / "qmtl.db"


async def test_trades_mode_fetches_trades_and_covers_whole_intervals(
    exchange: LoopbackExchange, make: Callable[..., CcxtQuestDBProvider]
) -> None:
    provider = make(mode="trades")
    node: dict[str, Any] = {"node_id": provider.make_node_id(exchange_id="binance", symbol="BTC/USDT", mode="trades")}
    await provider.ensure_range(T0, T0 + 299, **node, interval=1)
    assert (T0, T0 + 299) in [
        (max(first, T0), min(last, T0 + 299)) for first, last in await provider.coverage(**node, interval=1)
    ]
    calls = exchange.count("aggTrades")
    frame = await provider.fetch(T0, T0 + 300, **node, interval=1)
    assert exchange.count("aggTrades") == calls
    expected = exchange.trades.between("BTCUSDT", T0 * 1000, (T0 + 300) * 1000 - 1, 10_000)
    rows = [
        (at // 1000, float(price), float(amount), "sell" if sold else "buy") for _, at, price, amount, sold in expected
    ]
    assert frame.rows() == rows
    assert frame.columns == ["ts", "price", "amount", "side"]
