"""Stock Flight clients: pyarrow's, ADBC's Flight SQL driver, Go's. Each plans a command and reads it, or raises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from adbc_driver_flightsql import dbapi

if TYPE_CHECKING:
    from collections.abc import Callable

_GO_CLIENT: Final = Path(__file__).resolve().parents[1] / ".tools" / "bin" / "flight_go"


def by_pyarrow(address: str, command: str) -> pa.Table:
    """The rows of all endpoints, which have the schema of the plan."""
    with fl.connect(f"grpc://{address}") as client:
        return read(client, fl.FlightDescriptor.for_command(command))


def read(client: fl.FlightClient, descriptor: fl.FlightDescriptor) -> pa.Table:
    """The rows of all endpoints, planned first."""
    info = client.get_flight_info(descriptor)
    tables = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert all(table.schema.equals(info.schema) for table in tables)
    return pa.concat_tables(tables)


def by_adbc(address: str, command: str) -> pa.Table:
    """The text of a query is a command."""
    with dbapi.connect(f"grpc://{address}", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(command)
        return cursor.fetch_arrow_table()


def by_go(address: str, command: str) -> pa.Table:
    """The rows of a complete read. Raises CalledProcessError, whose stderr says why."""
    done = subprocess.run([go_program(), address, command], capture_output=True, check=True)
    assert json.loads(done.stderr)["summary"]["complete"]
    return pa.ipc.open_stream(done.stdout).read_all()


def go_program() -> str:
    """tests/flight_go, which `make test` builds; the test is left out at home if it is not there, and fails in CI."""
    named = os.environ.get("FLIGHT_GO")
    binary = named or (str(_GO_CLIENT) if _GO_CLIENT.exists() else shutil.which("flight_go"))
    if binary is None:
        pytest.skip("no tests/flight_go: name it in FLIGHT_GO, or let `make test` build it (needs Go)")
    return binary


READERS: Final[dict[str, Callable[[str, str], pa.Table]]] = {"pyarrow": by_pyarrow, "adbc": by_adbc, "go": by_go}
