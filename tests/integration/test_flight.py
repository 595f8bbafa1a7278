"""The Flight door on a real store: stock clients list, plan and read what ReadRange gives, or raise."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from adbc_driver_flightsql import dbapi
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from benchmarks.rig.bars import END, batches
from benchmarks.rig.history import series_of
from historyd.coverage import Fact
from historyd.engine.events import ReadStart
from historyd.engine.history import HistoryEngine
from historyd.errors import StoreUnavailable
from historyd.model.page import Layout
from historyd.model.rows import BARS, TRADES
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_S, TimeRange, from_datetime, iso
from historyd.model.venue import Origin
from historyd.service.flight.messages import FlightInfo
from historyd.service.server import HistoryServer
from historyd.stores.embedded import open_embedded
from markethistory.v1 import history_service_pb2 as pb
from tests.e2e.serving import serve_engine, stub_of
from tests.rows import BTC_TRADES, bars, trades
from tests.scripted import MINUTE, START_OF_2024, ScriptedSource, VirtualClock, bars_at
from tests.stock_flight import by_adbc, by_go, read

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from historyd.engine.events import ReadRequest
    from historyd.engine.reading import ReadEvent
    from historyd.stores.base import Packer
    from markethistory.v1.history_service_pb2_grpc import HistoryServiceAsyncStub

ROOT = Path(__file__).resolve().parents[2]
STORED = 50_000
SERIES = series_of(STORED)
HOLED = "ohlcv:binance:HOLED/USDT:1m"
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class House:
    address: str
    stub: HistoryServiceAsyncStub
    channel: grpc.aio.Channel

    async def flight(self, action: Callable[[fl.FlightClient], Any]) -> Any:
        """What a stock client gives that does this; it blocks, so in a thread."""

        def run() -> Any:
            with fl.connect(f"grpc://{self.address}") as client:
                return action(client)

        return await asyncio.to_thread(run)

    async def read(self, descriptor: fl.FlightDescriptor) -> pa.Table:
        return await self.flight(lambda client: read(client, descriptor))

    async def by_stream(self, request: pb.ReadRangeRequest) -> pa.Table:
        messages = [message.arrow_ipc async for message in self.stub.ReadRange(request)]
        return pa.ipc.open_stream(b"".join(messages)).read_all()


def command(**members: Any) -> fl.FlightDescriptor:
    return fl.FlightDescriptor.for_command(json.dumps(members))


def path(*elements: str) -> fl.FlightDescriptor:
    return fl.FlightDescriptor.for_path(*elements)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with bars in small pages, bars with nulls and a hole, and trades."""
    file = tmp_path_factory.mktemp("flight") / "history.db"
    asyncio.run(plant(file))
    return file


async def plant(file: Path) -> None:
    asked_at = from_datetime(END)
    async with open_embedded(file) as opened:
        series = SeriesId.parse(SERIES)
        await opened.open_series(series, Origin("planted"), Layout(1_000))
        for batch in batches(STORED, 1_000):
            first, last = batch.column(0)[0].value, batch.column(0)[-1].value
            await opened.commit(series, Fact(TimeRange(first, last + MINUTE), asked_at, batch.num_rows), batch)
        holed = SeriesId.parse(HOLED)
        await opened.open_series(holed, Origin("planted"), Layout(10))
        for first in (0, 20):
            rows = bars(range(first, first + 10))
            rows = rows.set_column(5, BARS.field(5), pa.array([None, *range(9)], pa.float64()))
            await opened.commit(holed, Fact(TimeRange(first * MINUTE, (first + 10) * MINUTE), asked_at, 10), rows)
        await opened.open_series(BTC_TRADES, Origin("planted"), Layout(60_000))
        sold = trades((ms, seq) for ms in range(1_000, 6_000) for seq in range(3))
        await opened.commit(BTC_TRADES, Fact(TimeRange(0, 60 * MICROS_PER_S), asked_at, sold.num_rows), sold)


@asynccontextmanager
async def housed(store: Path) -> AsyncIterator[House]:
    async with (
        open_embedded(store) as opened,
        HistoryEngine(opened, None) as engine,
        HistoryServer(engine, "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield House(server.address, stub_of(channel), channel)


@pytest.fixture
async def house(store: Path) -> AsyncIterator[House]:
    async with housed(store) as opened:
        yield opened


async def test_what_is_stored_is_listed_and_each_ticket_reads_it(house: House) -> None:
    def list_and_read(client: fl.FlightClient) -> list[tuple[str, int, int, pa.Schema]]:
        return [
            (
                info.descriptor.path[0].decode(),
                info.total_records,
                client.do_get(info.endpoints[0].ticket).read_all().num_rows,
                info.schema,
            )
            for info in client.list_flights()
            if info.descriptor.path[0].decode() != HOLED
        ]

    found = await house.flight(list_and_read)
    assert found == [(SERIES, STORED, STORED, BARS), (str(BTC_TRADES), 15_000, 15_000, TRADES)]


async def test_a_pattern_bounds_the_list(house: House) -> None:
    listed = await house.flight(lambda client: [info.descriptor.path for info in client.list_flights(b"trades:*")])
    assert listed == [[str(BTC_TRADES).encode()]]


async def test_a_series_alone_is_all_that_is_stored_of_it(house: House) -> None:
    whole = await house.by_stream(pb.ReadRangeRequest(series=SERIES, last=STORED))
    table = await house.read(path(SERIES))
    assert table.num_rows == STORED
    assert table.equals(whole)


@pytest.mark.parametrize("columns", [[], ["volume", "open"]])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
async def test_a_range_is_what_read_range_gives(house: House, columns: list[str], compression: str | None) -> None:
    request = pb.ReadRangeRequest(series=SERIES, columns=columns)
    request.range.start.FromDatetime(END - 20 * DAY)
    request.range.end.FromDatetime(END - DAY)
    ends = {"start": (END - 20 * DAY).isoformat(), "end": (END - DAY).isoformat()}
    asked = command(series=SERIES, columns=columns, compression=compression, **ends)
    table = await house.read(asked)
    assert table.num_rows == 19 * 24 * 60
    assert table.equals(await house.by_stream(request))
    if not columns:
        assert (await house.read(path(SERIES, *ends.values()))).equals(table)


@pytest.mark.parametrize(("series", "end"), [(SERIES, END), (str(BTC_TRADES), EPOCH + timedelta(minutes=1))])
@pytest.mark.parametrize("count", [1, 120, 14_999])
async def test_the_last_rows_are_what_read_range_gives(house: House, series: str, end: datetime, count: int) -> None:
    table = await house.read(command(series=series, last=count, end=end.isoformat()))
    request = pb.ReadRangeRequest(series=series, last=count)
    request.range.end.FromDatetime(end)
    assert table.num_rows == count
    assert table.equals(await house.by_stream(request))


async def test_values_that_the_exchange_did_not_give_are_null(house: House) -> None:
    table = await house.read(path(HOLED, "1970-01-01", "1970-01-01T00:10:00Z"))
    assert table["volume"].to_pylist() == [None, *range(9)]


async def test_a_plan_says_the_schema_and_how_many_rows_there_are(house: House) -> None:
    asked = command(series=SERIES, start=(END - DAY).isoformat(), columns=["close"], end=END.isoformat())
    info = await house.flight(lambda client: client.get_flight_info(asked))
    schema = await house.flight(lambda client: client.get_schema(asked).schema)
    assert info.schema == schema == pa.schema([BARS.field("ts"), BARS.field("close")])
    assert (info.total_records, info.ordered, info.descriptor) == (24 * 60, True, asked)


async def test_a_ticket_without_an_end_means_the_same_rows_for_ever(house: House) -> None:
    asked = command(series=SERIES, start="2025-01-01", require_complete=False)
    info = await house.flight(lambda client: client.get_flight_info(asked))
    assert "end" in json.loads(info.endpoints[0].ticket.ticket)


async def chunks(house: House, asked: fl.FlightDescriptor) -> list[tuple[int, int, Any]]:
    """Rows, bytes and metadata of every message with rows, or none."""

    def run(client: fl.FlightClient) -> list[tuple[int, int, Any]]:
        reader = client.do_get(fl.Ticket(asked.command))
        return [
            (chunk.data.num_rows, chunk.data.nbytes, chunk.app_metadata and json.loads(chunk.app_metadata.to_pybytes()))
            for chunk in reader
        ]

    found: list[tuple[int, int, Any]] = await house.flight(run)
    return found


async def test_the_last_batch_alone_carries_the_summary(house: House) -> None:
    found = await chunks(house, command(series=SERIES, last=STORED, end=END.isoformat()))
    assert len(found) > 2
    assert all(size <= 1 << 20 for _, size, _ in found)
    assert [metadata for *_, metadata in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1][2]["summary"]["row_count"] == str(sum(rows for rows, *_ in found)) == str(STORED)
    assert found[-1][2]["range"]["end"] == iso(from_datetime(END))
    assert found[-1][2]["summary"]["complete"]


async def test_a_range_without_rows_is_one_empty_batch_with_the_summary(house: House) -> None:
    ends = {"start": "1970-01-01T00:00:30Z", "end": "1970-01-01T00:00:40Z"}
    [(rows, _, metadata)] = await chunks(house, command(series=str(BTC_TRADES), **ends))
    assert (rows, metadata["summary"]["complete"], metadata["summary"]["uncovered"]) == (0, True, [])


async def test_an_incomplete_range_is_an_error_unless_it_may_be_one(house: House) -> None:
    ends = {"start": "1970-01-01", "end": "1970-01-01T00:30:00Z"}
    for asked in (path(HOLED, *ends.values()), command(series=HOLED, **ends), path(HOLED)):
        with pytest.raises(pa.ArrowInvalid, match=r"is missing in 1970-01-01T00:10:00Z/1970-01-01T00:20:00Z"):
            await house.read(asked)
    *_, (_, _, metadata) = await chunks(house, command(series=HOLED, require_complete=False, **ends))
    [hole] = metadata["summary"]["uncovered"]
    assert (metadata["summary"]["complete"], hole["state"]) == (False, "COVERAGE_STATE_MISSING")
    assert metadata["summary"]["row_count"] == "20"


def sql(kind: str, value: bytes = b"") -> bytes:
    """A command of Flight SQL as its clients pack it."""
    packed = AnyMessage(type_url=f"type.googleapis.com/arrow.flight.protocol.sql.{kind}", value=value)
    return packed.SerializeToString()


WRONG = {
    b"{}": ("series", "must be given"),
    b"no json": ("cmd", "must be a JSON object"),
    b"[1]": ("cmd", "must be a JSON object"),
    b'{"series":7}': ("series", "valid string"),
    b'{"series":"BTCUSDT"}': ("series", "ohlcv:"),
    b'{"series":"%s","begin":"2024"}': ("cmd", "no members but series, start"),
    b'{"series":"%s","start":"2024-01-01T00:00"}': ("start", "ISO 8601"),
    b'{"series":"%s","end":"soon","last":1}': ("end", "ISO 8601"),
    b'{"series":"%s","start":"2024-01-02","end":"2024-01-01"}': ("range.end", "later than the start"),
    b'{"series":"%s","last":-1}': ("last", "greater than or equal to 0"),
    b'{"series":"%s","last":10000001}': ("last", "less than or equal to 10000000"),
    b'{"series":"%s","last":5,"columns":["ope"]}': ("columns", "must be of ts, open"),
    b'{"series":"%s","last":5,"compression":"gzip"}': ("compression", "'lz4' or 'zstd'"),
    b'{"series":"ohlcv:binance:NOT/THERE:1m"}': ("start", "nothing is stored of"),
    sql("CommandStatementQuery", b"\n\x12SELECT 1 FROM rows"): ("cmd", "JSON object"),
    sql("CommandStatementQuery", b"\n\x12SELECT"): ("cmd", "query that can be read"),
}


@pytest.mark.parametrize("told", WRONG, ids=lambda told: told.decode(errors="replace")[:40])
async def test_what_is_wrong_with_a_command_is_said_with_its_name(house: House, told: bytes) -> None:
    field, must = WRONG[told]
    asked = fl.FlightDescriptor.for_command(told.replace(b"%s", SERIES.encode()))
    with pytest.raises(pa.ArrowInvalid, match=f"message: {re.escape(field)}: .*{must}"):
        await house.flight(lambda client: client.get_flight_info(asked))


@pytest.mark.parametrize("elements", [(), (SERIES, "2024-01-01", "2024-01-02", "2024-01-03"), (SERIES, "yesterday")])
async def test_a_path_that_names_no_range_is_refused(house: House, elements: tuple[str, ...]) -> None:
    with pytest.raises(pa.ArrowInvalid, match=r"(path|start): must be"):
        await house.flight(lambda client: client.get_flight_info(path(*elements)))


async def test_a_ticket_that_is_none_is_refused(house: House) -> None:
    with pytest.raises(pa.ArrowInvalid, match="ticket: must be a JSON object"):
        await house.flight(lambda client: client.do_get(fl.Ticket(b"\xff")).read_all())


async def test_errors_carry_the_reasons_of_the_contract(house: House) -> None:
    """A Flight client shows what it likes of them; they are on the wire."""
    ask = house.channel.unary_unary(
        "/arrow.flight.protocol.FlightService/GetFlightInfo",
        request_serializer=lambda asked: asked,
        response_deserializer=FlightInfo.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(command(series="BTCUSDT").serialize())
    status, info = rpc_status.from_call(caught.value), ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["field"]) == ("INVALID_SERIES", "series")


async def test_what_the_door_does_not_do_is_unimplemented(house: House) -> None:
    sql_info = sql("CommandGetSqlInfo")
    schema = pa.schema([("a", pa.int64())])
    for refused in (
        lambda client: list(client.list_actions()),
        lambda client: list(client.do_action(fl.Action("drop", b""))),
        lambda client: client.do_put(path(SERIES), schema)[0].close(),
        lambda client: client.get_flight_info(fl.FlightDescriptor.for_command(sql_info)),
    ):
        with pytest.raises(pa.ArrowNotImplementedError, match="no writes, actions or SQL"):
            await house.flight(refused)


async def test_ensure_fetches_first_and_the_rows_follow(tmp_path: Path) -> None:
    clock = VirtualClock(START_OF_2024 + 10_000 * MINUTE)
    source = ScriptedSource(clock)
    async with (
        open_embedded(tmp_path / "history.db") as opened,
        HistoryEngine(opened, source, clock=clock, sleep=clock.sleep) as engine,
        serve_engine(engine) as local,
    ):
        house = House(local.server.address, local.stub, local.channel)
        series = "ohlcv:binance:BTC/USDT:1m"
        ends = {"start": "2024-01-01", "end": "2024-01-01T10:00:00Z"}
        with pytest.raises(pa.ArrowInvalid, match="is missing in"):
            await house.read(command(series=series, **ends))
        assert source.calls == []
        table = await house.read(command(series=series, ensure=True, **ends))
        assert table == pa.Table.from_batches([bars_at(START_OF_2024 + at * MINUTE for at in range(600))])
        last = await house.read(command(series=series, ensure=True, last=30, end="2024-01-02"))
        assert last == pa.Table.from_batches([bars_at(START_OF_2024 + at * MINUTE for at in range(1410, 1440))])
        source.symbols = set()
        with pytest.raises(KeyError, match="ETH/USDT"):
            await house.read(command(series="ohlcv:binance:ETH/USDT:1m", ensure=True, **ends))


class BrokenEngine:
    """Reads some rows, then its store is away."""

    def now(self) -> int:
        return START_OF_2024

    def drain(self) -> None:
        """Nothing is under way."""

    async def read(self, request: ReadRequest, packer: Packer | None = None) -> AsyncGenerator[ReadEvent, None]:
        yield ReadStart(request.window)
        yield bars(range(100))
        yield bars(range(100, 200))
        raise StoreUnavailable("the store is away", cause="gone")


async def test_a_read_that_breaks_on_its_way_raises() -> None:
    async with serve_engine(BrokenEngine()) as local:
        house = House(local.server.address, local.stub, local.channel)
        ticket = fl.Ticket(json.dumps({"series": SERIES, "start": "1970-01-01"}))
        with pytest.raises(fl.FlightUnavailableError, match="the store is away"):
            await house.flight(lambda client: client.do_get(ticket).read_all())


async def test_every_call_is_one_line_in_the_access_log(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "historyd.access")
    async with housed(store) as house:
        await house.read(path(SERIES, "2025-12-01", "2025-12-02"))
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "historyd.access"]
    told = [(line["method"], line["series"], line["status"], line["rows"]) for line in lines]
    assert told == [("GetFlightInfo", SERIES, "OK", 0), ("DoGet", SERIES, "OK", 1440)]


@pytest.mark.parametrize("series", [SERIES, str(BTC_TRADES)])
async def test_adbcs_flight_sql_driver_reads_it(house: House, series: str) -> None:
    table = await asyncio.to_thread(by_adbc, house.address, json.dumps({"series": series}))
    assert table.equals(await house.by_stream(pb.ReadRangeRequest(series=series, last=STORED)))


async def test_adbc_raises_what_is_incomplete(house: House) -> None:
    with pytest.raises(dbapi.OperationalError, match="is missing in"):
        await asyncio.to_thread(by_adbc, house.address, json.dumps({"series": HOLED}))


@pytest.mark.parametrize("series", [SERIES, str(BTC_TRADES)])
async def test_gos_stock_client_reads_it(house: House, series: str) -> None:
    table = await asyncio.to_thread(by_go, house.address, json.dumps({"series": series}))
    assert table == await house.by_stream(pb.ReadRangeRequest(series=series, last=STORED))


async def test_gos_stock_client_fails_for_what_is_incomplete(house: House) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await asyncio.to_thread(by_go, house.address, json.dumps({"series": HOLED}))
    assert b"is missing in" in caught.value.stderr


def examples() -> list[str]:
    """The Python programs of docs/flight.md, and the one of the README that reads through Flight."""
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in ("docs/flight.md", "README.md")]
    programs = [program for text in texts for program in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    return [program for program in programs if "flight" in program]


async def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    clock = VirtualClock(START_OF_2024 + 10_000 * MINUTE)
    async with (
        open_embedded(tmp_path / "history.db") as opened,
        HistoryEngine(opened, ScriptedSource(clock), clock=clock, sleep=clock.sleep) as engine,
        serve_engine(engine) as local,
    ):
        ready = {"series": "ohlcv:binance:BTC/USDT:1m", "start": "2024-01-01", "end": "2024-02-01", "ensure": True}
        house = House(local.server.address, local.stub, local.channel)
        await house.read(command(**ready))
        programs = [text.replace("127.0.0.1:50051", house.address) for text in examples()]
        assert len(programs) == 3
        for program in programs:
            assert house.address in program
            await asyncio.to_thread(exec, compile(program, "docs/flight.md", "exec"), {})
