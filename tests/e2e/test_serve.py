"""`historyd` as a user runs it: processes, files, signals, exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from markethistory.v1 import history_service_pb2 as pb
from tests.e2e.serving import SERVICE, Serving, environment, serve_process
from tests.e2e.test_service import BTC, span

if TYPE_CHECKING:
    from pathlib import Path

    from historyd.demo.exchange import LoopbackExchange

READ = pb.ReadRangeRequest(series=BTC, range=span(0, 1500), ensure=True)


async def run(directory: Path, *arguments: str, answer: str = "", **variables: str) -> tuple[int, str, str]:
    """Runs `historyd` to its end: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "historyd", *arguments),
        cwd=directory,
        env=environment(COLUMNS="200", **variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(answer.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def read_all(serving: Serving) -> list[pb.ReadRangeResponse]:
    return [message async for message in serving.stub.ReadRange(READ)]


async def test_it_says_where_it_listens_is_healthy_and_ends_well(served: Serving, tmp_path: Path) -> None:
    """The port is the real one, the store's file is there, health knows the server and the service."""
    assert served.line == f"historyd listening on {served.address}, store markethistory.db"
    assert int(served.address.rpartition(":")[2]) > 0
    assert (tmp_path / "markethistory.db").exists()
    health = health_pb2_grpc.HealthStub(served.channel)
    for name in ("", SERVICE):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert await served.stop() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_a_question_asked_twice_costs_the_exchange_nothing(
    connected: Serving, exchange: LoopbackExchange
) -> None:
    """Through real ccxt, store and wire: the exchange's own candles come back, the second time without a call."""
    messages = await read_all(connected)
    table = pa.ipc.open_stream(b"".join(message.arrow_ipc for message in messages)).read_all()
    start_ms = READ.range.start.seconds * 1000
    candles = exchange.candles.bars("BTCUSDT", "1m", start_ms, start_ms + 1500 * 60_000 - 1, 1500)
    assert table.num_rows == len(candles) == 1500
    assert [value.value // 1000 for value in table.column("ts")] == [candle[0] for candle in candles]
    assert table.column("close").to_pylist() == [float(candle[4]) for candle in candles]
    calls = len(exchange.calls)
    assert calls > 0
    again = await read_all(connected)
    assert len(exchange.calls) == calls
    assert sum(message.row_count for message in again) == 1500


async def test_what_was_fetched_is_there_after_a_restart_without_any_exchange(
    connected: Serving, tmp_path: Path
) -> None:
    await read_all(connected)
    assert await connected.stop() == 0
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if "historyd.access" in line]
    assert f"call method=ReadRange series={BTC} status=OK ms=" in line
    assert line.endswith("rows=1500")
    (tmp_path / "offline.yaml").write_text("exchanges: {binance: {base_url: 'http://127.0.0.1:1'}}\n")
    async with serve_process(tmp_path, "-c", "offline.yaml") as serving:
        assert sum(message.row_count for message in await read_all(serving)) == 1500


async def test_disk_usage_is_shown_beside_a_running_server(connected: Serving, tmp_path: Path) -> None:
    await read_all(connected)
    code, out, _ = await run(tmp_path, "du", "--json")
    report = json.loads(out)
    assert code == 0
    ((name, rows, first),) = [(entry["series"], entry["rows"], entry["first"]) for entry in report["series"]]
    assert (name, first <= "2024-01-01T00:00:00Z") == (BTC, True)
    assert rows >= 1500
    assert report["file_bytes"] > 0
    code, out, _ = await run(tmp_path, "du")
    assert code == 0
    assert BTC in out
    assert f"{rows:,}" in out


@pytest.mark.slow
async def test_forgetting_asks_first_and_needs_the_store_alone(connected: Serving, tmp_path: Path) -> None:
    """Refused while the server runs; a `no` removes nothing; a range, then all, are removed with their coverage."""
    await read_all(connected)
    code, _, err = await run(tmp_path, "forget", BTC, "--yes")
    assert (code, len(err.splitlines())) == (1, 1)
    assert await connected.stop() == 0

    assert (await run(tmp_path, "forget", BTC, answer="n\n"))[0] == 1
    _, out, _ = await run(tmp_path, "forget", BTC, "2024-01-01T00:00:00Z/2024-01-01T01:00:00Z", answer="y\n")
    assert "removed 60 rows" in out
    code, out, _ = await run(tmp_path, "forget", BTC, "--yes")
    assert (code, out.startswith("removed ")) == (0, True)
    assert json.loads((await run(tmp_path, "du", "--json"))[1])["series"] == []


async def test_a_wrong_range_is_told_in_one_line(tmp_path: Path) -> None:
    for text in ("2024-01-02/2024-01-01", "2024-01-01", "2024-01-01T00:00:00/2024-01-02", "x/y"):
        code, _, err = await run(tmp_path, "forget", BTC, text, "--yes")
        assert (code, len(err.splitlines())) == (1, 1), err
        assert err.startswith("historyd: RANGE: must ")


async def test_no_store_is_told_and_none_is_made(tmp_path: Path) -> None:
    code, _, err = await run(tmp_path, "du")
    assert (code, len(err.splitlines())) == (1, 1)
    assert not (tmp_path / "markethistory.db").exists()


async def test_a_second_server_on_the_same_store_is_refused_in_one_line(served: Serving, tmp_path: Path) -> None:
    code, out, err = await run(tmp_path, "serve", "--listen", "127.0.0.1:0")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "markethistory.db" in err


async def test_a_port_that_is_taken_is_told_in_one_line(served: Serving, tmp_path: Path) -> None:
    other = {"HISTORYD_STORE__EMBEDDED__PATH": "other.db"}
    code, out, err = await run(tmp_path, "serve", "--listen", served.address, **other)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"cannot listen on {served.address}" in err


async def test_a_wrong_configuration_ends_with_exit_code_2_and_a_line_for_each_fault(tmp_path: Path) -> None:
    (tmp_path / "historyd.yaml").write_text("listn: x\nexchanges: {binance: {rate_limiter: {scope: clustr}}}\n")
    for command in (["serve", "--config", "historyd.yaml"], ["check-config", "historyd.yaml"]):
        code, out, err = await run(tmp_path, *command)
        assert (code, out) == (2, "")
        faults = sorted(line.split(": ")[:2] for line in err.splitlines())
        assert faults == [["historyd", "exchanges.binance.rate_limiter.scope"], ["historyd", "listn"]]


async def test_a_right_configuration_is_said_to_be_right(tmp_path: Path) -> None:
    (tmp_path / "historyd.yaml").write_text("listen: 127.0.0.1:7000\n")
    code, out, err = await run(tmp_path, "check-config", "historyd.yaml")
    assert (code, out, err) == (0, "ok: listens on 127.0.0.1:7000, store markethistory.db\n", "")
