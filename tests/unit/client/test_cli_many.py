"""The command line with many series: patterns, one file, a file each, one question, one summary; and `quality`."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from markethistory.cli.app import app
from markethistory.cli.targets import safe_names
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1 import quality_pb2, series_pb2
from tests.fake_history import (
    MINUTE,
    SERIES,
    START,
    Break,
    FakeHistory,
    bars,
    error_info,
    frames,
    serving,
    stamp,
    window,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = bars(300)
END = START + 300 * MINUTE
WHEN = ["--start", "2024-01-01", "--end", "2024-01-01T05:00:00Z"]
SYMBOLS = [f"S{number:02}/USDT" for number in range(12)]
PATTERN = "ohlcv:binance:*/USDT:1m"
NAMES = [f"ohlcv:binance:{symbol}:1m" for symbol in SYMBOLS]
GONE = Break(grpc.StatusCode.NOT_FOUND, "no such symbol", error_info("UNKNOWN_SYMBOL"))


def plan(calls: int) -> pb.EnsureRangeResponse:
    return pb.EnsureRangeResponse(plan=pb.EnsurePlan(range=window(START, END), page_count=calls, call_count=calls))


def ensured(calls: int = 1) -> Any:
    done = pb.EnsureRangeResponse(result=pb.EnsureResult(row_count=300, page_count=calls, call_count=calls))
    return lambda request: [plan(calls)] if request.plan_only else [plan(calls), done]


@pytest.fixture
def fake() -> FakeHistory:
    markets = [series_pb2.Market(symbol=symbol, type="spot", active=True) for symbol in SYMBOLS]
    stored = [series_pb2.Series(series=name) for name in NAMES[:2]]
    return FakeHistory({
        "ReadRange": lambda request: frames(ROWS, request),
        "EnsureRange": ensured(),
        "ListMarkets": lambda _: [pb.ListMarketsResponse(markets=markets, timeframes=["1m"])],
        "ListSeries": lambda _: [pb.ListSeriesResponse(series=stored)],
    })  # fmt: skip


@pytest.fixture
def server(fake: FakeHistory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(fake) as target:
        monkeypatch.setenv("MARKETHISTORY_SERVER", target)
        yield target


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, catch_exceptions=False)


def failing(name: str, then: Any) -> Any:
    return lambda request: [GONE] if request.series == name else then(request)


def test_a_pattern_is_ensured_as_the_markets_that_it_stands_for(server: str, fake: FakeHistory) -> None:
    done = run("ensure", PATTERN, *WHEN, "--json")
    assert done.exit_code == 0
    assert [json.loads(line)["series"] for line in done.stdout.splitlines()] == NAMES
    asked = {request.series for request in fake.requests if isinstance(request, pb.EnsureRangeRequest)}
    assert asked == set(NAMES)


def test_the_calls_of_all_series_are_asked_about_once(server: str, fake: FakeHistory) -> None:
    fake.handlers["EnsureRange"] = ensured(100)
    done = run("ensure", PATTERN, *WHEN)
    assert done.exit_code == 5
    assert done.stderr == "markethistory: 1,200 calls to exchanges, at least 0:00:00: say --yes to make them\n"


def test_what_is_stored_is_meant_where_nothing_is_fetched(server: str, fake: FakeHistory) -> None:
    done = run("read", PATTERN, *WHEN, "--stored-only", "--json")
    assert [json.loads(line)["series"] for line in done.stdout.splitlines()] == NAMES[:2]
    assert not any(isinstance(request, pb.ListMarketsRequest) for request in fake.requests)
    fake.handlers["ListSeries"] = lambda _: [pb.ListSeriesResponse()]
    assert run("coverage", PATTERN).exit_code == 2
    assert "no series is stored that matches" in run("coverage", PATTERN).stderr


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow"])
def test_several_series_go_to_one_file_each_row_with_its_series(server: str, tmp_path: Path, suffix: str) -> None:
    """In the order of the series, however many are read at once; nothing else is left."""
    file = tmp_path / f"all.{suffix}"
    done = run("read", PATTERN, *WHEN, "-o", str(file), "-j", "8")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{file}: 3,600 rows of 12 series\n"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    table = read_back(file)
    assert table.column_names == ["series", *ROWS.schema.names]
    assert table["series"].to_pylist() == [name for name in NAMES for _ in range(300)]
    assert table["close"].to_pylist() == ROWS["close"].to_pylist() * 12


def read_back(file: Path) -> pa.Table:
    if file.suffix == ".csv":
        return pyarrow.csv.read_csv(file)
    if file.suffix == ".parquet":
        return pq.read_table(file)
    with pa.ipc.open_file(file) as reader:
        return reader.read_all()


def test_of_a_series_that_fails_nothing_is_in_the_file_and_the_others_are(
    server: str, fake: FakeHistory, tmp_path: Path
) -> None:
    """Even if it fails in the middle of its rows."""
    broken = Break(grpc.StatusCode.DATA_LOSS, "damaged", error_info("CORRUPT_PAGE"))
    fake.handlers["ReadRange"] = lambda request: (
        [*frames(ROWS, request)[:2], broken] if request.series == NAMES[4] else frames(ROWS, request)
    )
    file = tmp_path / "all.parquet"
    done = run("read", PATTERN, *WHEN, "-o", str(file))
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"markethistory: {NAMES[4]}: damaged",
        "markethistory: 1 of 12 series failed",
    ]
    assert set(read_back(file)["series"].to_pylist()) == set(NAMES) - {NAMES[4]}
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_if_all_fail_there_is_no_file_and_the_old_one_stays(server: str, fake: FakeHistory, tmp_path: Path) -> None:
    fake.handlers["EnsureRange"] = lambda _: [GONE]
    file = tmp_path / "all.csv"
    file.write_text("old")
    assert run("read", *NAMES[:2], *WHEN, "-o", str(file)).exit_code == 1
    assert file.read_text() == "old"


def test_several_series_on_standard_output_are_one_csv(server: str) -> None:
    lines = run("read", *NAMES[:2], *WHEN, "-o", "-").stdout.splitlines()
    assert lines[0] == '"series","ts","open","high","low","close","volume"'
    assert len(lines) == 601
    assert [line.split(",")[0].strip('"') for line in (lines[1], lines[-1])] == NAMES[:2]


def test_a_file_for_each_series_is_named_after_it(server: str, tmp_path: Path) -> None:
    done = run("read", PATTERN, *WHEN, "-o", str(tmp_path / "{series}.arrow"))
    assert done.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"ohlcv_binance_S{number:02}_USDT_1m.arrow" for number in range(12)
    ]


ids = st.lists(st.text("AaBb/:_1mM \u00e9", min_size=1, max_size=5), unique=True, max_size=20)


@given(ids)
def test_names_of_files_are_safe_and_differ_even_where_case_does_not_count(series: list[str]) -> None:
    names = safe_names(series)
    assert len({name.casefold() for name in names.values()}) == len(series)
    assert all(name.isascii() and not set(name) & set('/\\:*?"<>| ') for name in names.values())


def day(number: int, **counts: Any) -> quality_pb2.QualityDay:
    start = START + timedelta(days=number)
    return quality_pb2.QualityDay(range=window(start, start + timedelta(days=1)), **counts)


def reported(fake: FakeHistory) -> None:
    """Two pages of a report, the second one with a bad row."""
    bad = [quality_pb2.QuarantineCount(reason="off_grid", row_count=2)]
    row = quality_pb2.QuarantinedRow(at=stamp(START + timedelta(days=1)), reason="off_grid", row='{"ts": 7}')
    whole = window(START, START + timedelta(days=2))

    def pages(request: quality_pb2.QualityRequest) -> list[quality_pb2.QualityResponse]:
        if not request.page_token:
            return [quality_pb2.QualityResponse(days=[day(0, row_count=1440)], range=whole, next_page_token="more")]
        listed = [row] if request.row_limit else []
        days = [day(1, row_count=1438, expected_count=1440, quarantined=bad, zero_volume_count=3, revised_count=5)]
        return [quality_pb2.QualityResponse(days=days, range=whole, quarantined_rows=listed)]

    fake.handlers["Quality"] = pages


def test_quality_shows_a_day_a_line_and_the_rows_set_aside(server: str, fake: FakeHistory) -> None:
    reported(fake)
    lines = [line.split() for line in run("quality", SERIES, *WHEN, "--rows", "5").stdout.splitlines()]
    assert lines[0] == [SERIES]
    assert lines[2] == ["2024-01-01T00:00:00Z", "1,440", *["0"] * 8]
    assert lines[3][:3] == ["2024-01-02T00:00:00Z", "1,438", "1,440"]
    assert " ".join(lines[3]).endswith("5 0 3 in 0, longest 0 off_grid 2")
    assert lines[-1] == ["2024-01-02T00:00:00Z", "off_grid", '{"ts":', "7}"]
    assert [request.row_limit for request in fake.requests] == [5, 5]


def test_quality_is_json_or_a_file_too(server: str, fake: FakeHistory, tmp_path: Path) -> None:
    reported(fake)
    (told,) = map(json.loads, run("quality", SERIES, *WHEN, "--json").stdout.splitlines())
    assert told["series"] == SERIES
    assert [one["row_count"] for one in told["days"]] == [1440, 1438]
    assert told["days"][1]["quarantined"] == {"off_grid": 2}
    file = tmp_path / "days.parquet"
    assert run("quality", SERIES, NAMES[0], *WHEN, "-o", str(file)).exit_code == 0
    table = pq.read_table(file)
    assert table["series"].to_pylist() == [SERIES] * 2 + [NAMES[0]] * 2
    assert table["quarantined_count"].to_pylist() == [0, 2, 0, 2]
    assert table["quarantined"].to_pylist()[1] == '{"off_grid": 2}'
    assert run("quality", SERIES, *WHEN, "-o", "-").stdout.splitlines()[0].startswith('"series","day","row_count"')


def test_one_series_without_a_report_stops_no_other(server: str, fake: FakeHistory) -> None:
    reported(fake)
    fake.handlers["Quality"] = failing(NAMES[0], fake.handlers["Quality"])
    done = run("quality", NAMES[0], SERIES, *WHEN)
    assert done.exit_code == 1
    assert SERIES in done.stdout
    assert done.stderr.splitlines() == [
        f"markethistory: {NAMES[0]}: no such symbol",
        "markethistory: 1 of 2 series failed",
    ]
