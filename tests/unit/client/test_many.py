"""Several series at once: patterns, order, bounds, and one that fails."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import markethistory
import markethistory.aio
from markethistory.errors import MarketHistoryError, NotFound
from markethistory.many import SeriesPattern
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1 import series_pb2
from tests.fake_history import MINUTE, START, Break, FakeHistory, bars, error_info, frames, serving
from tests.unit.client.peers import IMPATIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markethistory import SeriesResult

ROWS = bars(30)
END = START + 30 * MINUTE
NAMES = [f"ohlcv:binance:S{number}/USDT:1m" for number in range(12)]


def listed(*symbols: str, inactive: tuple[str, ...] = ()) -> Callable[[Any], list[pb.ListMarketsResponse]]:
    markets = [series_pb2.Market(symbol=name, type="spot", active=name not in inactive) for name in symbols]
    return lambda _: [pb.ListMarketsResponse(markets=markets, timeframes=["1m", "1h"])]


def sync_many(target: str, *args: Any, **kwargs: Any) -> list[SeriesResult]:
    with markethistory.connect(target, retry=IMPATIENT) as history:
        return list(history.read_many(*args, **kwargs))


def aio_many(target: str, *args: Any, **kwargs: Any) -> list[SeriesResult]:
    async def call() -> list[SeriesResult]:
        async with markethistory.aio.connect(target, retry=IMPATIENT) as history:
            return [result async for result in history.read_many(*args, **kwargs)]

    return asyncio.run(call())


both = pytest.mark.parametrize("many", [sync_many, aio_many], ids=["sync", "aio"])


@both
def test_series_come_in_the_order_asked_for_and_one_that_fails_stops_no_other(many: Any) -> None:
    gone = Break(grpc.StatusCode.NOT_FOUND, "no such symbol", error_info("UNKNOWN_SYMBOL"))

    def read(request: pb.ReadRangeRequest) -> list[Any]:
        return [gone] if request.series == NAMES[3] else frames(ROWS, request)

    with serving(FakeHistory({"ReadRange": read})) as target:
        results = many(target, [*NAMES, NAMES[0]], START, END, jobs=3)
    assert [result.series for result in results] == NAMES
    assert isinstance(results[3].error, NotFound)
    with pytest.raises(NotFound, match="no such symbol"):
        results[3].unwrap()
    tables = [result.unwrap() for result in results if result.error is None]
    assert len(tables) == 11
    assert all(table.to_batches()[0].equals(ROWS) for table in tables)
    assert b"markethistory" in tables[0].schema.metadata


@both
def test_a_pattern_stands_for_the_active_markets_that_match(many: Any) -> None:
    fake = FakeHistory({
        "ListMarkets": listed("A/USDT", "B/USDT", "C/USDT:USDT", inactive=("B/USDT",)),
        "ReadRange": lambda request: frames(ROWS, request),
    })  # fmt: skip
    with serving(fake) as target:
        results = many(target, ["ohlcv:binance:*/USDT*:1m", "ohlcv:binance:A/USDT:1m"], START, END)
    assert [result.series for result in results] == ["ohlcv:binance:A/USDT:1m", "ohlcv:binance:C/USDT:USDT:1m"]
    asked = fake.requests[0]
    assert (asked.exchange, asked.pattern) == ("binance", "*/USDT*")


@both
def test_no_more_reads_are_under_way_than_jobs(many: Any) -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def read(request: pb.ReadRangeRequest) -> Iterator[Any]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        yield from frames(ROWS, request)
        with lock:
            under_way -= 1

    with serving(FakeHistory({"ReadRange": read})) as target:
        assert len(many(target, NAMES, START, END, jobs=2)) == 12
    assert most <= 2


def hanging(reading: threading.Event, left: threading.Event) -> Callable[[Any], Iterator[Any]]:
    """The first series comes at once, the others never end."""

    def read(request: pb.ReadRangeRequest) -> Iterator[Any]:
        if request.series == NAMES[0]:
            yield from frames(ROWS, request)
            return
        reading.set()
        left.wait(300)
        yield from frames(ROWS, request)

    return read


def test_leaving_early_cancels_the_reads_under_way() -> None:
    reading, left = threading.Event(), threading.Event()
    with serving(FakeHistory({"ReadRange": hanging(reading, left)})) as target:
        with markethistory.connect(target) as history:
            results = history.read_many(NAMES[:3], START, END, jobs=2)
            assert next(results).series == NAMES[0]
            assert reading.wait(30)
            results.close()
        left.set()


async def test_leaving_early_cancels_the_reads_under_way_with_asyncio() -> None:
    reading, left = threading.Event(), threading.Event()
    with serving(FakeHistory({"ReadRange": hanging(reading, left)})) as target:
        async with markethistory.aio.connect(target) as history:
            results = history.read_many(NAMES[:3], START, END, jobs=2)
            assert (await anext(results)).series == NAMES[0]
            assert await asyncio.to_thread(reading.wait, 30)
            await results.aclose()
        left.set()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ohlcv:binance:*/USDT:1m", ("ohlcv", "binance", "*/USDT", "1m")),
        ("ohlcv:okx:BTC/USDT:*:1h", ("ohlcv", "okx", "BTC/USDT:*", "1h")),
        ("trades:kraken:?TC/USD", ("trades", "kraken", "?TC/USD", "")),
        ("trades:okx:*/USDT:USDT", ("trades", "okx", "*/USDT:USDT", "")),
    ],
)
def test_a_pattern_is_read_like_an_id(text: str, parts: tuple[str, ...]) -> None:
    pattern = SeriesPattern.parse(text)
    assert pattern == SeriesPattern(*parts)
    assert str(pattern) == text


@pytest.mark.parametrize(
    "text", ["*", "ohlcv:*:BTC/USDT:1m", "ohlcv:binance:BTC/USDT:*", "bars:binance:*:1m", "trades:?:x"]
)
def test_a_pattern_in_another_place_than_the_symbol_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="in its symbol only"):
        SeriesPattern.parse(text)


@both
def test_what_cannot_be_right_is_told_before_anything_is_read(many: Any) -> None:
    fake = FakeHistory({"ListMarkets": listed("A/USDT", inactive=("A/USDT",))})
    with serving(fake) as target:
        with pytest.raises(ValueError, match="jobs"):
            many(target, NAMES, START, END, jobs=0)
        with pytest.raises(NotFound, match="no active market of binance matches"):
            many(target, "ohlcv:binance:*:1m", START, END)
        with pytest.raises(NotFound, match="does not serve '7m'; it serves 1m, 1h"):
            many(target, "ohlcv:binance:*:7m", START, END)
        with pytest.raises(ValueError, match="end"):
            many(target, NAMES, END, START)
    assert all(isinstance(request, pb.ListMarketsRequest) for request in fake.requests)


@both
def test_an_incomplete_table_is_told_by_its_metadata_and_no_warning(many: Any) -> None:
    fake = FakeHistory({"ReadRange": lambda request: frames(ROWS, request, complete=False)})
    with serving(fake) as target:
        (result,) = many(target, NAMES[0], START, END)
    assert b'"complete": false' in result.unwrap().schema.metadata[b"markethistory"]


def test_errors_are_those_of_the_contract() -> None:
    with serving(FakeHistory({"ReadRange": lambda _: [Break(grpc.StatusCode.UNAVAILABLE)]})) as target:
        (result,) = sync_many(target, NAMES[0], START, END)
    assert isinstance(result.error, MarketHistoryError)
    assert result.table is None
