"""Recorded trades of real exchanges, served over HTTP as they were, come through ccxt and the engine row by row."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from historyd.model.time_range import MICROS_PER_MS, MICROS_PER_S, TimeRange
from tests import realdata
from tests.trade_lab import expected, trade_lab
from tests.venues.binance import Binance
from tests.venues.serving import Dialect, serve
from tests.venues.tape import Tape, Tick

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.trade_lab import Row
    from tests.venues.serving import Query, Reply

pytestmark = realdata.needed


class Recorded(Dialect):
    """A venue that answers every question for trades with one recorded reply."""

    spot = "BTC/USD"
    bars_tail = "/none"
    markets_tail = "/none"
    quota_spent: ClassVar = {}

    def __init__(self, exchange: str, markets: Mapping[str, Any], trades: tuple[str, Any], now_s: int) -> None:
        super().__init__(Tape(()), clock=lambda: now_s * 1000)
        self.exchange = exchange  # type: ignore[misc]
        self.trades_tail = trades[0]  # type: ignore[misc]
        self._bodies = {**markets, trades[0]: trades[1]}

    def routes(self) -> Mapping[str, Reply]:
        return {path: partial(self.answer, body) for path, body in self._bodies.items()}

    def answer(self, body: Any, query: Query) -> Any:
        """The reply as it was recorded."""
        return body


class RecordedKraken(Recorded):
    """Leaves out what is not after `since`, as the real one does."""

    def answer(self, body: Any, query: Query) -> Any:
        if "since" not in query:
            return body
        rows = [row for row in body["result"]["XXBTZUSD"] if round(row[2] * 10_000) * 100_000 > int(query["since"])]
        return {"error": [], "result": {**body["result"], "XXBTZUSD": rows}}


async def rows_of(dialect: Dialect, window: TimeRange, store: Path, spot: str | None = None) -> list[Row]:
    """The rows of a window after it was made covered, and again from the store."""
    now = dialect.clock() * MICROS_PER_MS
    async with serve(dialect) as venue, trade_lab(venue, store, now=now, spot=spot) as lab:
        await lab.ensure(window)
        rows, _ = await lab.read(window)
        calls = lab.calls
        await lab.ensure(window)
        assert lab.calls == calls
    return rows


async def test_binances_recorded_trades_come_through_unchanged(tmp_path: Path) -> None:
    """A page of a thousand ids in a row; of the pages around it the recording kept the first and the last trade."""
    pages = [body for query, body in realdata.recorded_replies("binance")["/api/v3/aggTrades"] if "fromId" in query]
    run = {one["a"]: one for page in pages for one in page if 202_789_181 <= one["a"] <= 202_802_178}
    assert len(run) > 1000
    ticks = [_tick(one) for _, one in sorted(run.items())]
    binance = Binance(Tape(("BTC/USDT",), ticks={"BTC/USDT": ticks}), clock=lambda: ticks[-1].at_ms + 120_000)
    window = TimeRange(ticks[0].at_ms * MICROS_PER_MS - 3600 * MICROS_PER_S, ticks[-1].at_ms * MICROS_PER_MS + 1)
    assert await rows_of(binance, window, tmp_path / "t.db") == expected(ticks, "binance", window)


async def test_binances_recorded_trades_of_a_perpetual_come_through_unchanged(tmp_path: Path) -> None:
    [page] = [body for _, body in realdata.recorded_replies("binance")["/fapi/v1/aggTrades"] if len(body) == 500]
    ticks = [_tick(one) for one in page]
    symbol = "LTC/USDT:USDT"
    binance = Binance(Tape(("BTC/USDT", symbol), ticks={symbol: ticks}), clock=lambda: ticks[-1].at_ms + 120_000)
    window = TimeRange(ticks[0].at_ms * MICROS_PER_MS, ticks[-1].at_ms * MICROS_PER_MS + 1)
    assert await rows_of(binance, window, tmp_path / "t.db", symbol) == expected(ticks, "binance", window)


BITSTAMP: Final[dict[str, Any]] = {
    "/api/v2/markets/": [
        {
            "market_symbol": "btcusd",
            "base_currency": "BTC",
            "counter_currency": "USD",
            "market_type": "SPOT",
            "trading": "Enabled",
            "base_decimals": 8,
            "counter_decimals": 2,
            "name": "BTC/USD",
            "description": "Bitcoin / U.S. dollar",
            "minimum_order_value": "20.0",
        }
    ]
}


def bitstamp_replies() -> list[Any]:
    path = "/api/v2/transactions/btcusd/"
    return [realdata.recorded_replies("bitstamp")[path][0][1], realdata.xchange("bitstamp-example-trades-data")]


@pytest.mark.parametrize("at", [0, 1], ids=["gocryptotrader", "xchange"])
async def test_bitstamps_recorded_trades_come_through_but_for_the_first_second(at: int, tmp_path: Path) -> None:
    """The answer may have been cut within the first second that it has."""
    reply = bitstamp_replies()[at]
    sides = {"0": "buy", "1": "sell", None: None}
    rows = [
        (int(one["date"]) * MICROS_PER_S, int(one["tid"]), one["price"], one["amount"], sides[one.get("type")])
        for one in reply
    ]
    newest_s = max(row[0] for row in rows) // MICROS_PER_S
    trades = ("/api/v2/transactions/btcusd/", reply)
    dialect = Recorded("bitstamp", BITSTAMP, trades, newest_s + 120)
    assert await rows_of(dialect, all_before(newest_s), tmp_path / "t.db") == but_for_the_first_time(rows)


@pytest.mark.parametrize("number", [0, 2, 4])
async def test_geminis_recorded_trades_come_through_but_for_the_first_millisecond(number: int, tmp_path: Path) -> None:
    replies = realdata.recorded_replies("gemini")
    pages = [body for path in ("/v1/trades/BTCUSD", "/v1/trades/btcusd") for _, body in replies[path]]
    reply = pages[number]
    rows = [(one["timestampms"] * MICROS_PER_MS, one["tid"], one["price"], one["amount"], one["type"]) for one in reply]
    newest_s = max(row[0] for row in rows) // MICROS_PER_S
    details = ["BTCUSD", "BTC", 8, "USD", 2, "0.00001", "open"]
    names = ("symbol", "base_currency", "tick_size", "quote_currency", "quote_increment", "min_order_size", "status")
    markets = {
        "/v1/symbols": ["btcusd"],
        "/v1/symbols/details/btcusd": dict(zip(names, details, strict=True)),
        "/v1/symbols/details/all": [dict(zip(names, details, strict=True))],
    }
    dialect = Recorded("gemini", markets, ("/v1/trades/btcusd", reply), newest_s + 120)
    assert await rows_of(dialect, all_before(newest_s), tmp_path / "t.db") == but_for_the_first_time(rows)


async def test_krakens_recorded_trades_come_through_with_microseconds_and_ids_made_for_them(tmp_path: Path) -> None:
    """The reply is of 2013: it has no ids, and ccxt takes the cursor behind it for that of its last trade."""
    reply = realdata.xchange("kraken-example-trades-data")
    raw = reply["result"]["XXBTZUSD"]
    [pairs] = realdata.instruments("KRAKEN").values()
    pairs["result"] = {"XXBTZUSD": pairs["result"]["XXBTZUSD"]}
    now_s = int(raw[-1][2]) + 120
    dialect = RecordedKraken("kraken", {"/0/public/AssetPairs": pairs}, ("/0/public/Trades", reply), now_s)
    rows = await rows_of(dialect, TimeRange((now_s - 3600) * MICROS_PER_S, now_s * MICROS_PER_S), tmp_path / "t.db")
    sides = {"b": "buy", "s": "sell"}
    assert [(row[0], *row[3:]) for row in rows] == [
        (round(at * 10_000) * 100, float(price), float(amount), sides[side]) for price, amount, at, side, *_ in raw
    ]
    assert all("x" in row[2] and row[2].endswith("#0") for row in rows), "made of the content and the ordinal"


async def test_upbits_recorded_trades_come_through_but_for_the_first_millisecond(tmp_path: Path) -> None:
    """The reply has no ids."""
    reply = realdata.xchange("upbit-example-marketrecords-trades-data")
    sides = {"ASK": "sell", "BID": "buy"}
    rows = [
        (one["timestamp"] * MICROS_PER_MS, -at, one["trade_price"], one["trade_volume"], sides[one["ask_bid"]])
        for at, one in enumerate(reply)
    ]
    newest_s = max(row[0] for row in rows) // MICROS_PER_S
    markets = {"/v1/market/all": [{"market": "BTC-ETH", "korean_name": "", "english_name": "Ethereum"}]}
    dialect = Recorded("upbit", markets, ("/v1/trades/ticks", reply), newest_s + 120)
    got = await rows_of(dialect, all_before(newest_s), tmp_path / "t.db", "ETH/BTC")
    wanted = but_for_the_first_time(rows)
    assert [(*row[:2], *row[3:]) for row in got] == [(*row[:2], *row[3:]) for row in wanted]
    assert len({(row[0], row[2]) for row in got}) == len(got)


def all_before(newest_s: int) -> TimeRange:
    """Everything up to the second after the newest trade."""
    return TimeRange(0, (newest_s + 1) * MICROS_PER_S)


def but_for_the_first_time(raw: list[tuple[int, int, Any, Any, Any]]) -> list[Any]:
    """Rows of (time, id, price, amount, side) as they are to come out: ordered, numbered, without the oldest time."""
    oldest = min(row[0] for row in raw)
    rows: list[Any] = []
    for at, number, price, amount, side in sorted(raw, key=lambda row: row[:2]):
        if at > oldest:
            seq = rows[-1][1] + 1 if rows and rows[-1][0] == at else 0
            rows.append((at, seq, str(number), float(price), float(amount), side))
    return rows


def _tick(one: dict[str, Any]) -> Tick:
    return Tick(one["a"], one["T"] * 1_000_000, one["p"], one["q"], "sell" if one["m"] else "buy")
