"""The bridge to qmtl: units, ends, aliases, frames, and the traps of its callers."""

from __future__ import annotations

import asyncio
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from markethistory import NotFound
from markethistory.frames import empty_table, frame_library, to_frame
from markethistory.node_ids import make_node_id, read_node_id
from markethistory.qmtl import HistoryProvider
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.coverage_pb2 import (
    COVERAGE_STATE_COVERED,
    COVERAGE_STATE_MISSING,
    COVERAGE_STATE_PENDING,
    COVERAGE_STATE_UNREACHABLE,
    CoverageSpan,
)
from tests.fake_history import (
    MINUTE,
    SERIES,
    START,
    Break,
    FakeHistory,
    bars,
    covered,
    error_info,
    frames,
    serving,
    window,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

T0 = int(START.timestamp())
NODE: dict[str, Any] = {"node_id": "blake3:5f0c7a1e", "interval": 60}
"""What qmtl really hands over: the hash of a node."""
OHLCV = ["ts", "open", "high", "low", "close", "volume"]


def plan_and_result(request: pb.EnsureRangeRequest) -> list[pb.EnsureRangeResponse]:
    return [
        pb.EnsureRangeResponse(plan=pb.EnsurePlan(range=request.range)),
        pb.EnsureRangeResponse(result=pb.EnsureResult()),
    ]


@pytest.fixture
def fake() -> FakeHistory:
    return FakeHistory({"ReadRange": lambda request: frames(bars(3), request), "EnsureRange": plan_and_result})


@pytest.fixture
def server(fake: FakeHistory) -> Iterator[str]:
    with serving(fake) as target:
        yield target


async def ask(server: str, method: str, *args: Any, **kwargs: Any) -> Any:
    async with HistoryProvider(SERIES, server=server) as provider:
        return await getattr(provider, method)(*args, **{**NODE, **kwargs})


async def test_a_fetch_is_half_open_in_seconds_and_fills_first(server: str, fake: FakeHistory) -> None:
    frame = await ask(server, "fetch", T0, T0 + 180)
    assert frame["ts"].to_list() == [T0, T0 + 60, T0 + 120]
    [request] = fake.requests
    assert request.series == SERIES
    assert request.range == window(START, START + 3 * MINUTE)
    assert request.ensure


async def test_a_polars_frame_is_the_default(server: str) -> None:
    frame = await ask(server, "fetch", T0, T0 + 180)
    assert frame.schema == {"ts": pl.Int64, **dict.fromkeys(OHLCV[1:], pl.Float64)}
    assert [int(row["ts"]) for row in frame.iter_rows(named=True)] == [T0, T0 + 60, T0 + 120]


async def test_a_pandas_frame_is_given_to_who_wants_it(server: str) -> None:
    async with HistoryProvider(SERIES, server=server, frame="pandas") as provider:
        frame = await provider.fetch(T0, T0 + 180, **NODE)
    assert isinstance(frame, pd.DataFrame)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "ts": "int64",
        **dict.fromkeys(OHLCV[1:], "float64"),
    }
    assert [int(row["ts"]) for _, row in frame.iterrows()] == [T0, T0 + 60, T0 + 120]


@pytest.mark.parametrize(("start", "end"), [(T0, T0), (T0 + 60, T0), (-120, -60)])
async def test_an_empty_range_is_an_empty_frame_with_columns(
    server: str, fake: FakeHistory, start: int, end: int
) -> None:
    frame = await ask(server, "fetch", start, end)
    assert (frame.height, frame.columns) == (0, OHLCV)
    assert fake.requests == []


async def test_no_rows_are_an_empty_frame_with_columns(server: str, fake: FakeHistory) -> None:
    fake.handlers["ReadRange"] = lambda request: frames(bars(0), request)
    frame = await ask(server, "fetch", T0, T0 + 60)
    assert (frame.height, frame.columns) == (0, OHLCV)
    assert frame.schema["ts"] == pl.Int64


@pytest.mark.parametrize("method", ["ensure_range", "fill_missing"])
async def test_both_ends_of_an_ensure_belong_to_it(server: str, fake: FakeHistory, method: str) -> None:
    """The bar that opens at `end` is asked for, the one after it is not."""
    assert await ask(server, method, T0, T0 + 120) is None
    [request] = fake.requests
    assert request.range == window(START, START + 2 * MINUTE + timedelta(seconds=1))


async def test_an_ensure_of_a_single_bar_asks_for_it(server: str, fake: FakeHistory) -> None:
    await ask(server, "ensure_range", T0, T0)
    assert fake.requests[0].range == window(START, START + timedelta(seconds=1))


async def test_an_ensure_that_ends_before_it_begins_does_nothing(server: str, fake: FakeHistory) -> None:
    await ask(server, "ensure_range", T0 + 60, T0)
    assert fake.requests == []


def spans(*tiles: tuple[str, int, int]) -> Any:
    """A coverage answer: (state, first minute, minute behind)."""
    states = {"pending": COVERAGE_STATE_PENDING, "far": COVERAGE_STATE_UNREACHABLE, "missing": COVERAGE_STATE_MISSING}
    made = []
    for state, start, end in tiles:
        span = window(START + start * MINUTE, START + end * MINUTE)
        if state in states:
            made.append(CoverageSpan(range=span, state=states[state]))
        else:
            made.append(covered(START + start * MINUTE, START + end * MINUTE, int(state)))
    return lambda _: [pb.CoverageResponse(spans=made)]


@pytest.mark.parametrize(
    ("tiles", "expected"),
    [
        ([("5", 0, 5)], [(0, 4)]),
        ([("1", 7, 8)], [(7, 7)]),
        ([("5", 0, 5), ("missing", 5, 8), ("2", 8, 10)], [(0, 4), (8, 9)]),
        ([("missing", 0, 10)], []),
        ([("5", 0, 5), ("0", 5, 8), ("2", 8, 10)], [(0, 9)]),
        ([("far", 0, 5), ("missing", 5, 6), ("2", 6, 8)], [(0, 4), (6, 7)]),
        ([("5", 0, 5), ("pending", 5, 6)], [(0, 5)]),
    ],
    ids=["bars", "one bar", "a gap", "nothing", "confirmed empty", "unreachable", "the open bar"],
)
async def test_coverage_is_inclusive_and_holds_all_that_asking_cannot_change(
    server: str, fake: FakeHistory, tiles: list[tuple[str, int, int]], expected: list[tuple[int, int]]
) -> None:
    """qmtl's warm-up asks without a pause, for a minute, for what coverage leaves out."""
    fake.handlers["Coverage"] = spans(*tiles)
    found = await ask(server, "coverage")
    assert found == [(T0 + 60 * first, T0 + 60 * last) for first, last in expected]


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [(0, 119, (0, 60)), (1, 121, (60, 120)), (60, 61, (60, 60)), (1, 60, None), (61, 119, None)],
)
async def test_edges_off_the_grid_hold_whole_bars_only(
    server: str, fake: FakeHistory, start_s: int, end_s: int, expected: tuple[int, int] | None
) -> None:
    start, end = (START + timedelta(seconds=edge) for edge in (start_s, end_s))
    fake.handlers["Coverage"] = lambda _: [pb.CoverageResponse(spans=[covered(start, end, 1)])]
    found = await ask(server, "coverage")
    assert found == ([] if expected is None else [(T0 + expected[0], T0 + expected[1])])


TRADES: dict[str, Any] = {"node_id": "trades:binance:BTC/USDT", "interval": 10}


@pytest.mark.parametrize(
    ("tiles", "expected"),
    [
        ([("covered", 0, 60.0), ("missing", 60.0, 90.0)], [(0, 50)]),
        ([("covered", 0, 59.999), ("missing", 59.999, 90.0)], [(0, 40)]),
        ([("missing", 0, 0.5), ("covered", 0.5, 30.0), ("missing", 30.0, 31.0)], [(10, 20)]),
        ([("covered", 0, 25.0), ("missing", 25.0, 26.0), ("covered", 26.0, 60.0)], [(0, 10), (30, 50)]),
        ([("covered", 0, 60.0), ("pending", 60.0, 94.5)], [(0, 90)]),
        ([("covered", 3.0, 12.0), ("missing", 12.0, 60.0)], []),
    ],
    ids=["whole", "short of it", "begun late", "a hole", "what is still open", "less than one"],
)
async def test_an_interval_of_trades_is_covered_if_all_of_it_is(
    server: str, fake: FakeHistory, tiles: list[tuple[str, float, float]], expected: list[tuple[int, int]]
) -> None:
    states = {"pending": COVERAGE_STATE_PENDING, "missing": COVERAGE_STATE_MISSING, "covered": COVERAGE_STATE_COVERED}
    made = [
        CoverageSpan(
            range=window(START + timedelta(seconds=start), START + timedelta(seconds=end)), state=states[state]
        )
        for state, start, end in tiles
    ]
    fake.handlers["Coverage"] = lambda _: [pb.CoverageResponse(spans=made)]
    async with HistoryProvider(SERIES, server=server) as provider:
        found = await provider.coverage(**TRADES)
    assert found == [(T0 + first, T0 + last) for first, last in expected]


async def test_an_ensure_of_trades_asks_for_whole_intervals(server: str, fake: FakeHistory) -> None:
    async with HistoryProvider(SERIES, server=server) as provider:
        await provider.ensure_range(T0, T0 + 20, **TRADES)
    assert fake.requests[0].range == window(START, START + timedelta(seconds=30))


async def test_coverage_from_1970_on_begins_at_zero(server: str, fake: FakeHistory) -> None:
    fake.handlers["Coverage"] = lambda _: [
        pb.CoverageResponse(spans=[covered(datetime(1970, 1, 1, tzinfo=UTC), START, 0)])
    ]
    assert await ask(server, "coverage") == [(0, T0 - 60)]


async def test_a_warm_up_ends_though_the_last_bar_is_open(server: str, fake: FakeHistory) -> None:
    """qmtl's own loop: ensure, then fill what coverage leaves out of the window, which ends with the open bar."""
    fake.handlers["Coverage"] = spans(("120", 0, 120), ("pending", 120, 121))
    async with HistoryProvider(SERIES, server=server) as provider:
        await provider.ensure_range(T0, T0 + 120 * 60, **NODE)
        assert await provider.coverage(**NODE) == [(T0, T0 + 120 * 60)]


@pytest.mark.parametrize(
    ("node_id", "series"),
    [
        ("blake3:0123", SERIES),
        ("", SERIES),
        ("ohlcv:binance:BTC/USDT", SERIES),
        ("ohlcv:binance:ETH/USDT:1m", "ohlcv:binance:ETH/USDT:1m"),
        ("ohlcv:Binance:ETH/USDT:1m", "ohlcv:binance:ETH/USDT:1m"),
        ("ohlcv:bybit:BTC/USDT:USDT:1m", "ohlcv:bybit:BTC/USDT:USDT:1m"),
        ("trades:binance:BTC/USDT", "trades:binance:BTC/USDT"),
    ],
)
async def test_a_node_id_that_is_a_series_overrides_and_any_other_stands_for_ours(
    server: str, fake: FakeHistory, node_id: str, series: str
) -> None:
    await ask(server, "ensure_range", T0, T0, node_id=node_id)
    assert fake.requests[0].series == series


@pytest.mark.parametrize("method", ["fetch", "ensure_range", "fill_missing"])
async def test_an_interval_that_does_not_fit_is_refused(server: str, fake: FakeHistory, method: str) -> None:
    with pytest.raises(ValueError, match="interval: 300 s does not fit ohlcv:binance:BTC/USDT:1m, whose bars are 60 s"):
        await ask(server, method, T0, T0 + 600, interval=300)
    with pytest.raises(ValueError, match="interval: 60 s does not fit"):
        await ask(server, "coverage", node_id="ohlcv:binance:BTC/USDT:5m")
    assert fake.requests == []


@pytest.mark.parametrize("timeframe", ["1M", "1y"])
async def test_calendar_bars_have_no_interval(server: str, timeframe: str) -> None:
    with pytest.raises(ValueError, match="no fixed width"):
        await ask(server, "coverage", node_id=f"ohlcv:binance:BTC/USDT:{timeframe}", interval=2_592_000)


def test_a_provider_is_not_taken_for_a_storage_backend() -> None:
    """qmtl wraps whatever has these three."""
    provider = HistoryProvider(SERIES)
    assert not all(hasattr(provider, name) for name in ("read_range", "write_rows", "coverage"))
    provider.bind_stream(object())


async def test_errors_come_out_as_the_clients(server: str, fake: FakeHistory) -> None:
    fake.handlers["ReadRange"] = lambda _: [Break(grpc.StatusCode.NOT_FOUND, "no", error_info("UNKNOWN_SYMBOL"))]
    with pytest.raises(NotFound):
        await ask(server, "fetch", T0, T0 + 60)


def test_one_provider_serves_event_loops_that_come_and_go(server: str, fake: FakeHistory) -> None:
    provider = HistoryProvider(SERIES, server=server)
    for _ in range(3):
        assert asyncio.run(provider.fetch(T0, T0 + 180, **NODE)).height == 3
    assert len(fake.requests) == 3


def test_from_config_takes_the_specifications_words() -> None:
    config = {"exchange": "Binance", "symbols": ["BTC/USDT", "ETH/USDT"], "timeframe": "5m", "server": "h:1"}
    assert HistoryProvider.from_config(config).series == "ohlcv:binance:BTC/USDT:5m"
    assert HistoryProvider.from_config({"symbols": ["A/B"], "mode": "trades"}).series == "trades:binance:A/B"


def test_from_config_multi_makes_one_for_each_symbol_and_timeframe() -> None:
    config = {"exchange_id": "okx", "symbols": ["A/B", "C/D:D"], "timeframes": ["1m", "1h"]}
    made = HistoryProvider.from_config_multi(config)
    assert {key: provider.series for key, provider in made.items()} == {
        key: key for key in ("ohlcv:okx:A/B:1m", "ohlcv:okx:A/B:1h", "ohlcv:okx:C/D:D:1m", "ohlcv:okx:C/D:D:1h")
    }
    assert HistoryProvider.from_config_multi({"exchange": "okx"}) == {}
    trades = HistoryProvider.from_config_multi({"symbols": ["A/B"], "mode": "trades", "timeframes": ["1m", "1h"]})
    assert list(trades) == ["trades:binance:A/B"]


def test_what_the_server_decides_is_passed_over_with_a_warning() -> None:
    config = {"symbols": ["A/B"], "questdb": {"dsn": "x"}, "rate_limiter": {}}
    with pytest.warns(UserWarning, match="the server decides about questdb, rate_limiter") as caught:
        HistoryProvider.from_config(config)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"symbols": ["A/B"], "timefame": "1m"}, "no such key 'timefame'; did you mean 'timeframe'"),
        ({}, "symbols: a list with at least one symbol"),
        ({"symbols": "BTC/USDT"}, "symbols: a list"),
        ({"symbols": ["A/B"], "timeframe": "1x"}, "no series id"),
        ({"symbols": ["A/B"], "mode": "tradez"}, "no series id"),
        ({"symbols": ["A/B"], "frame": "arrow"}, "frame: 'arrow' is none of"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], what: str) -> None:
    with warnings.catch_warnings(), pytest.raises(ValueError, match=what):
        HistoryProvider.from_config(config)


def test_a_provider_needs_a_series() -> None:
    with pytest.raises(ValueError, match="series: 'blake3:00' is none such as"):
        HistoryProvider("blake3:00")


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ({"exchange_id": "binance", "symbol": "BTC/USDT"}, "ohlcv:binance:BTC/USDT:1m"),
        ({"exchange_id": "binance", "symbol": " BTC/USDT:USDT ", "timeframe": "4h"}, "ohlcv:binance:BTC/USDT:USDT:4h"),
        ({"exchange_id": "Okx", "symbol": "A/B", "timeframe": "1m", "mode": "TRADES"}, "trades:okx:A/B"),
    ],
)
def test_node_ids_are_series_ids(words: dict[str, str], made: str) -> None:
    assert make_node_id(**words) == made
    assert HistoryProvider.make_node_id(**words) == made
    assert read_node_id(made) == made


def test_trades_become_frames_of_their_own_columns() -> None:
    assert to_frame(empty_table("trades:okx:A/B"), "polars").schema == {
        "ts": pl.Int64, "price": pl.Float64, "amount": pl.Float64, "side": pl.String
    }  # fmt: skip


def test_a_fraction_of_a_second_is_cut_off() -> None:
    times = pa.array([1_999_999, 2_000_000], pa.timestamp("us", "UTC"))
    table = pa.table({"ts": times, "price": [1.0, 2.0], "amount": [1.0, 2.0], "side": ["buy", "sell"]})
    assert to_frame(table, "polars")["ts"].to_list() == [1, 2]


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("markethistory.frames.find_spec", lambda _: None)
    with pytest.raises(ImportError, match="polars or pandas"):
        frame_library(None)


def test_pandas_is_taken_where_polars_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("markethistory.frames.find_spec", lambda name: None if name == "polars" else object())
    assert frame_library(None) == "pandas"
