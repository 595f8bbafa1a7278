"""The series of the golden cases in a real store: our clients, and stock Flight clients through the Flight door, give
the digests that the cases expect.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pytest

from historyd.coverage import Fact
from historyd.engine.history import HistoryEngine
from historyd.model.page import Layout
from historyd.model.rows import SCHEMAS
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.venue import Origin
from historyd.service.server import HistoryServer
from historyd.stores.embedded import open_embedded
from tests.clients.conformance_python import table_digest
from tests.clients.golden_cases import CASES
from tests.clients.programs import LANGUAGES, ROOT, program
from tests.stock_flight import READERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from historyd.stores.base import Store
    from tests.clients.golden import Case

# Whole rows that came in one answer for a range that stands.
STORED: Final = [
    case
    for case in CASES
    if case.call in {"read", "last"} and case.error is None and len(case.rounds) == 1
    if case.columns is None and None not in case.window
]


def rows_of(case: Case) -> pa.RecordBatch:
    """The rows of a case, out of its frames."""
    stream = b"".join(message.arrow_ipc for message in case.rounds[0].messages)  # type: ignore[union-attr]
    table = pa.ipc.open_stream(stream).read_all().combine_chunks()
    schema = SCHEMAS[SeriesId.parse(case.series).kind]
    return pa.RecordBatch.from_arrays([c.combine_chunks() for c in table.columns], schema=schema)


async def plant(store: Store) -> None:
    """Stores each case as the answer for all of its range."""
    for case in STORED:
        series, rows = SeriesId.parse(case.series), rows_of(case)
        start, end = case.window
        assert start is not None
        assert end is not None
        await store.open_series(series, Origin("golden"), Layout(1_000 if case.kind == "ohlcv" else 3_600_000))
        await store.commit(series, Fact(TimeRange(start, end), end, rows.num_rows), rows)


@asynccontextmanager
async def serving(file: Path) -> AsyncIterator[str]:
    """A server whose store has the series: its address."""
    async with (
        open_embedded(file) as store,
        HistoryEngine(store, None) as engine,
        HistoryServer(engine, "127.0.0.1:0") as server,
    ):
        await plant(store)
        yield server.address


def command_of(document: dict[str, Any]) -> str:
    """The command of the Flight door that asks for what a case asks for."""
    asked = {"series": document["series"], "end": document["end"]}
    return json.dumps(
        asked | ({"start": document["start"]} if document["last"] is None else {"last": document["last"]})
    )


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    """The cases as cases.json has them."""
    names = {case.name for case in STORED}
    cases = json.loads((ROOT / "tests/clients/cases.json").read_text(encoding="utf-8"))
    return [case for case in cases if case["name"] in names]


@pytest.mark.parametrize("reader", READERS)
async def test_a_stock_flight_client_gives_the_digests(
    reader: str, documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert len(documents) >= 12
    async with serving(tmp_path / "history.db") as address:
        tables = [await asyncio.to_thread(READERS[reader], address, command_of(case)) for case in documents]
    found = {case["name"]: (table.num_rows, table_digest(table)) for case, table in zip(documents, tables, strict=True)}
    assert found == {case["name"]: (case["expect"]["rows"], case["expect"]["digest"]) for case in documents}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_our_clients_give_the_digests(language: str, documents: list[dict[str, Any]], tmp_path: Path) -> None:
    command = program(language, "conformance")
    (tmp_path / "cases.json").write_text(json.dumps(documents))
    async with serving(tmp_path / "history.db") as address:
        process = await asyncio.create_subprocess_exec(
            *command, address, str(tmp_path / "cases.json"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    found = {told["case"]: told["digest"] for told in map(json.loads, out.splitlines())}
    assert found == {case["name"]: case["expect"]["digest"] for case in documents}
