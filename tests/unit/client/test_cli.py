"""The command line against a scripted server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner, Result

from markethistory.cli.app import app
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1 import series_pb2
from markethistory.v1.coverage_pb2 import COVERAGE_STATE_UNREACHABLE, CoverageSpan
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

ROWS = bars(300)
END = START + 300 * MINUTE
WHEN = ["--start", "2024-01-01", "--end", "2024-01-01T05:00:00Z"]
OTHER = "ohlcv:kraken:ETH/USD:1m"
UNREACHABLE = CoverageSpan(range=window(START, START + MINUTE), state=COVERAGE_STATE_UNREACHABLE, reason="too deep")


def plan(calls: int) -> pb.EnsureRangeResponse:
    return pb.EnsureRangeResponse(
        plan=pb.EnsurePlan(
            range=window(START, END), page_count=calls, call_count=calls, least_duration=Duration(seconds=calls)
        )
    )


def ensured(calls: int, *uncovered: CoverageSpan) -> Any:
    result = pb.EnsureRangeResponse(
        result=pb.EnsureResult(row_count=300, page_count=calls, call_count=calls, uncovered=uncovered)
    )
    return lambda request: [plan(calls)] if request.plan_only else [plan(calls), result]


@pytest.fixture
def fake() -> FakeHistory:
    return FakeHistory({"ReadRange": lambda request: frames(ROWS, request), "EnsureRange": ensured(1)})


@pytest.fixture
def server(fake: FakeHistory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(fake) as target:
        monkeypatch.setenv("MARKETHISTORY_SERVER", target)
        monkeypatch.setenv("COLUMNS", "160")
        yield target


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words, catch_exceptions=False)


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def kinds(fake: FakeHistory) -> list[str]:
    """What was asked, in order."""
    names = {pb.EnsureRangeRequest: "ensure", pb.ReadRangeRequest: "read"}
    return ["plan" if getattr(r, "plan_only", False) else names[type(r)] for r in fake.requests]


def test_a_read_shows_the_first_and_the_last_rows(server: str) -> None:
    done = run("read", SERIES, *WHEN)
    assert done.exit_code == 0
    assert f"{SERIES}: 300 rows" in done.stdout
    shown = [line for line in done.stdout.splitlines() if "2024-01-01T" in line]
    assert len(shown) == 10
    assert "2024-01-01T00:04:00Z" in shown[4]
    assert "2024-01-01T04:55:00Z" in shown[5]


def test_a_read_plans_fetches_and_reads(server: str, fake: FakeHistory) -> None:
    run("read", SERIES, *WHEN)
    assert kinds(fake) == ["plan", "ensure", "read"]
    assert fake.requests[-1].ensure


def test_a_read_of_what_is_stored_only_reads(server: str, fake: FakeHistory) -> None:
    run("read", SERIES, *WHEN, "--stored-only", "--columns", "close,open")
    assert kinds(fake) == ["read"]
    assert not fake.requests[0].ensure
    assert list(fake.requests[0].columns) == ["close", "open"]


def test_the_last_rows_are_one_call(server: str, fake: FakeHistory) -> None:
    done = run("read", SERIES, "--last", "3")
    assert kinds(fake) == ["read"]
    assert fake.requests[0].last == 3
    assert "3 rows" in done.stdout


@pytest.mark.parametrize("suffix", ["parquet", "csv", "arrow"])
def test_rows_are_written_to_a_file_and_nothing_else_is_left(server: str, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    done = run("read", SERIES, *WHEN, "-o", str(file))
    assert done.exit_code == 0
    assert "300 rows" in done.stdout
    assert names(tmp_path) == [file.name]
    assert read_back(file).column("close").to_pylist() == ROWS.column("close").to_pylist()


def read_back(file: Path) -> pa.Table:
    if file.suffix == ".csv":
        return pyarrow.csv.read_csv(file)
    if file.suffix == ".parquet":
        return pq.read_table(file)
    with pa.ipc.open_file(file) as reader:
        return reader.read_all()


def test_no_rows_make_a_file_with_the_schema(server: str, fake: FakeHistory, tmp_path: Path) -> None:
    fake.handlers["ReadRange"] = lambda request: frames(ROWS.slice(0, 0), request)
    run("read", SERIES, *WHEN, "-o", str(tmp_path / "none.parquet"))
    table = pq.read_table(tmp_path / "none.parquet")
    assert (table.num_rows, table.column_names) == (0, ROWS.schema.names)


def test_several_series_go_to_a_file_each(server: str, tmp_path: Path) -> None:
    done = run("read", SERIES, OTHER, *WHEN, "-o", str(tmp_path / "{}.arrow"))
    assert done.exit_code == 0
    assert names(tmp_path) == ["ohlcv_binance_BTC_USDT_1m.arrow", "ohlcv_kraken_ETH_USD_1m.arrow"]


def test_a_broken_read_leaves_no_file_and_keeps_the_old_one(server: str, fake: FakeHistory, tmp_path: Path) -> None:
    """The name stands for the old rows or for all of the new ones, never for some."""
    file = tmp_path / "rows.csv"
    file.write_text("old")
    damage = Break(grpc.StatusCode.DATA_LOSS, "damaged", error_info("CORRUPT_PAGE"))
    fake.handlers["ReadRange"] = lambda request: [*frames(ROWS, request)[:2], damage]
    done = run("read", SERIES, *WHEN, "-o", str(file))
    assert done.exit_code == 1
    assert done.stderr == f"markethistory: {SERIES}: damaged\n"
    assert names(tmp_path) == ["rows.csv"]
    assert file.read_text() == "old"


def test_rows_on_standard_output_are_csv_and_nothing_else(server: str) -> None:
    done = run("read", SERIES, *WHEN, "-o", "-")
    lines = done.stdout.splitlines()
    assert lines[0] == '"ts","open","high","low","close","volume"'
    assert len(lines) == 301


def test_json_is_one_document_a_line(server: str, fake: FakeHistory) -> None:
    done = run("read", SERIES, OTHER, *WHEN, "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert [first["series"], second["series"]] == [SERIES, OTHER]
    assert (first["row_count"], first["complete"]) == (300, True)
    assert first["head"][0] == {"ts": "2024-01-01T00:00:00Z", **dict(zip(ROWS.schema.names[1:], range(5), strict=True))}


def test_one_series_that_fails_stops_no_other(server: str, fake: FakeHistory) -> None:
    info = error_info("UNKNOWN_EXCHANGE", exchange="kraken")
    good = fake.handlers["EnsureRange"]
    fake.handlers["EnsureRange"] = lambda request: (
        [Break(grpc.StatusCode.NOT_FOUND, "no exchange 'kraken'", info)] if request.series == OTHER else good(request)
    )
    done = run("read", OTHER, SERIES, *WHEN, "--json")
    failed, read = map(json.loads, done.stdout.splitlines())
    assert failed == {
        "series": OTHER,
        "error": {
            "code": "NOT_FOUND",
            "reason": "UNKNOWN_EXCHANGE",
            "message": "no exchange 'kraken'",
            "metadata": {"exchange": "kraken"},
        },
    }
    assert read["row_count"] == 300
    assert done.stderr == f"markethistory: {OTHER}: no exchange 'kraken'\nmarkethistory: 1 of 2 series failed\n"
    assert done.exit_code == 1


def test_what_cannot_be_had_is_told_and_exits_3(server: str, fake: FakeHistory) -> None:
    fake.handlers["ReadRange"] = lambda request: frames(ROWS, request, uncovered=[UNREACHABLE], complete=False)
    done = run("read", SERIES, *WHEN)
    assert done.exit_code == 3
    assert done.stderr == (
        f"markethistory: {SERIES}: 2024-01-01T00:00:00Z/2024-01-01T00:01:00Z is unreachable (too deep)\n"
    )


def test_an_ensure_tells_what_it_took(server: str) -> None:
    done = run("ensure", SERIES, *WHEN)
    assert done.exit_code == 0
    [row] = [line for line in done.stdout.splitlines() if SERIES in line]
    assert row.split() == [SERIES, "300", "1"]


def test_an_ensure_that_leaves_a_hole_exits_3(server: str, fake: FakeHistory) -> None:
    fake.handlers["EnsureRange"] = ensured(1, UNREACHABLE)
    done = run("ensure", SERIES, *WHEN, "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["uncovered"][0]["reason"] == "too deep"


def test_a_plan_is_shown_and_nothing_is_fetched(server: str, fake: FakeHistory) -> None:
    fake.handlers["EnsureRange"] = ensured(5000)
    done = run("ensure", SERIES, *WHEN, "--plan", "--json")
    assert json.loads(done.stdout)["call_count"] == 5000
    assert kinds(fake) == ["plan"]


@pytest.mark.parametrize("command", ["ensure", "read"])
def test_many_calls_are_not_made_unasked(server: str, fake: FakeHistory, command: str) -> None:
    """There is no terminal to ask at, so it stops; the calls of all series count together."""
    fake.handlers["EnsureRange"] = ensured(501)
    done = run(command, SERIES, OTHER, *WHEN)
    assert done.exit_code == 5
    assert done.stderr == "markethistory: 1,002 calls to exchanges, at least 0:08:21: say --yes to make them\n"
    assert set(kinds(fake)) == {"plan"}


def test_many_calls_are_made_if_told_so(server: str, fake: FakeHistory) -> None:
    fake.handlers["EnsureRange"] = ensured(5000)
    assert run("ensure", SERIES, *WHEN, "--yes").exit_code == 0
    assert kinds(fake) == ["ensure"]


def test_coverage_shows_the_spans(server: str, fake: FakeHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each on a line of its own, however narrow the terminal: a cell cut in two says nothing."""
    monkeypatch.setenv("COLUMNS", "40")
    reply = pb.CoverageResponse(spans=[UNREACHABLE, covered(START + MINUTE, END, 299)])
    fake.handlers["Coverage"] = lambda _: [reply]
    lines = [line.split() for line in run("coverage", SERIES).stdout.splitlines()]
    assert ["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z", "unreachable", "0", "too", "deep"] in lines
    told = json.loads(run("coverage", SERIES, "--json").stdout)
    assert told["spans"][1] == {
        "range": {"start": "2024-01-01T00:01:00Z", "end": "2024-01-01T05:00:00Z"},
        "state": "covered",
        "row_count": 299,
        "checked_at": "2024-01-01T05:01:00Z",
        "reason": "",
    }


def test_series_and_markets_are_listed(server: str, fake: FakeHistory) -> None:
    fake.handlers["ListSeries"] = lambda _: [pb.ListSeriesResponse(series=[series_pb2.Series(series=SERIES)])]
    fake.handlers["ListMarkets"] = lambda _: [
        pb.ListMarketsResponse(markets=[series_pb2.Market(symbol="A/B", type="spot")], timeframes=["1m"])
    ]
    assert SERIES in run("series").stdout
    assert json.loads(run("series", "--json").stdout)["series"] == SERIES
    assert "A/B" in run("markets", "binance").stdout
    assert json.loads(run("markets", "binance", "--json").stdout)["timeframes"] == ["1m"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["read", SERIES], "give one of --start and --last"),
        (["read", SERIES, "--start", "7d", "--last", "3"], "give one of --start and --last"),
        (["read", SERIES, "--start", "yesterday"], "--start: 'yesterday' is no ISO 8601 time"),
        (["read", SERIES, "--start", "2024-01-01T00:00:00"], "--start: 2024-01-01T00:00:00 has no time zone"),
        (["read", SERIES, "--start", "1d", "--end", "2d"], "--start 1d must be earlier than --end 2d"),
        (["read", SERIES, "--start", "2999-01-01"], "--start 2999-01-01 must be earlier than --end (now)"),
        (["read", SERIES, "trades:binance:BTC/USDT", "--start", "1d", "-o", "x.csv"], "put {series} into -o"),
        (["ensure", "ohlcv:*:BTC/USDT:1m", "--start", "1d"], "in its symbol only"),
        (["quality", SERIES, "-o", "-", "--json"], "-o - takes no --json"),
        (["quality", SERIES, "-o", "/no/such/x.csv"], "there is no directory /no/such"),
        (["read", SERIES, "--start", "1d", "-o", "/no/such/x.csv"], "there is no directory /no/such"),
        (["read", SERIES, "--start", "1d", "-o", "-", "--json"], "-o - takes no --json"),
    ],
)
def test_wrong_usage_is_told_in_a_line_before_anything_is_asked(words: list[str], what: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert what in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_format_that_we_cannot_write_is_wrong_usage() -> None:
    done = run("read", SERIES, "--start", "1d", "-o", "rows.xlsx")
    assert done.exit_code == 2
    assert ".parquet" in done.stderr


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    done = run("series", "--server", "127.0.0.1:1")
    assert done.exit_code == 4
    assert done.stderr == (
        "markethistory: no answer from 127.0.0.1:1: start one with `historyd serve`, or say where it is with --server\n"
    )


def test_an_exchange_that_is_away_exits_4_and_says_when_to_try_again(server: str, fake: FakeHistory) -> None:
    away = Break(
        grpc.StatusCode.UNAVAILABLE, "binance is away", error_info("EXCHANGE_UNAVAILABLE"), timedelta(minutes=2)
    )
    fake.handlers["EnsureRange"] = lambda _: [away]
    done = run("ensure", SERIES, *WHEN)
    assert done.exit_code == 4
    assert done.stderr == f"markethistory: {SERIES}: binance is away; try again in 120 s\n"


def test_ctrl_c_cancels_the_call_and_leaves_without_a_traceback(tmp_path: Path) -> None:
    """A process of its own gets SIGINT in the middle of a read into a file."""
    reading, left = threading.Event(), threading.Event()

    def endless(request: pb.ReadRangeRequest) -> Iterator[Any]:
        try:
            yield frames(ROWS, request)[0]
            reading.set()
            left.wait(50)
        finally:
            left.set()

    fake = FakeHistory({"ReadRange": endless, "EnsureRange": ensured(1)})
    with serving(fake) as target:
        words = ["read", SERIES, *WHEN, "-o", str(tmp_path / "rows.csv"), "--server", target]
        process = subprocess.Popen(
            [sys.executable, "-c", "from markethistory.cli import main; main()", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert reading.wait(30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        left.set()
    assert process.returncode == 130
    assert (out, err) == ("", "markethistory: interrupted; what was fetched is kept\n")
    assert names(tmp_path) == []


def test_a_reader_of_our_output_that_leaves_early_is_no_error(fake: FakeHistory) -> None:
    """`markethistory read ... -o - | head -1` ends in silence."""
    fake.handlers["ReadRange"] = lambda request: frames(bars(50_000), request, chunk=5000)
    words = f"{sys.executable} -c 'from markethistory.cli import main; main()' read {SERIES} {' '.join(WHEN)} -o -"
    with serving(fake) as target:
        done = subprocess.run(
            f"{words} --server {target} | head -1", shell=True, capture_output=True, text=True, timeout=50, check=False
        )
    assert (done.stdout, done.stderr) == ('"ts","open","high","low","close","volume"\n', "")


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is a Unix thing")
@pytest.mark.parametrize(
    ("answer", "code", "made"), [(b"y\n", 0, 1), (b"n\n", 5, 0), (b"\x03", 130, 0)], ids=["yes", "no", "Ctrl-C"]
)
def test_a_person_is_asked_before_many_calls(fake: FakeHistory, answer: bytes, code: int, made: int) -> None:
    """At a terminal of its own, the process asks and does as it is told."""
    fake.handlers["EnsureRange"] = ensured(5000)
    with serving(fake) as target:
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_AT_TERMINAL, "ensure", SERIES, *WHEN, "--server", target],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        shown = b""
        while b"Go on?" not in shown:
            shown += os.read(ours, 4096)
        try:
            while not waits_for_a_key(process.pid):
                time.sleep(0.01)
            os.write(ours, answer)
            process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
            os.close(ours)
    assert process.returncode == code
    assert kinds(fake) == ["plan", *["ensure"] * made]


def waits_for_a_key(pid: int) -> bool:
    """Whether a process is in its read of descriptor 0, as far as the system tells.

    A Ctrl-C between Python's last look for signals and that read takes effect with the next key only.
    """
    try:
        return Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()[1:2] == ["0x0"]
    except OSError:
        return True


RUN_AT_TERMINAL = """
import fcntl, termios
from markethistory.cli import main
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
main()
"""
