"""The server answers a person with grpcurl and no proto at hand."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.serving import SERVICE, Serving, serve_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BUILT = Path(__file__).resolve().parents[2] / ".tools" / "bin" / "grpcurl"
DAY = '{"series":"ohlcv:binance:BTC/USDT:1m","range":{"start":"2024-01-01T00:00:00Z","end":"2024-01-02T00:00:00Z"}}'


def find_grpcurl() -> str | None:
    """Where grpcurl is: named by GRPCURL, built by `make test`, or on the PATH."""
    named = os.environ.get("GRPCURL")
    return named or (str(BUILT) if BUILT.exists() else shutil.which("grpcurl"))


class Grpcurl:
    """Runs grpcurl against one server."""

    def __init__(self, binary: str, serving: Serving) -> None:
        self._binary = binary
        self._serving = serving

    async def __call__(self, *words: str, data: str | None = None) -> tuple[int, str]:
        """Exit code, and what it said on both outputs; `words` come after the address."""
        given = () if data is None else ("-d", data)
        process = await asyncio.create_subprocess_exec(
            *(self._binary, "-plaintext", *given, self._serving.address, *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()


@pytest.fixture
async def grpcurl(tmp_path: Path) -> AsyncIterator[Grpcurl]:
    """grpcurl on a server that has no configuration."""
    binary = find_grpcurl()
    if binary is None:
        pytest.skip("no grpcurl: name it in GRPCURL, or let `make test` build it (needs Go)")
    async with serve_process(tmp_path) as serving:
        yield Grpcurl(binary, serving)


async def test_the_services_can_be_listed_and_described(grpcurl: Grpcurl) -> None:
    code, out = await grpcurl("list")
    assert (code, SERVICE in out.splitlines(), "grpc.health.v1.Health" in out.splitlines()) == (0, True, True)
    code, out = await grpcurl("describe", SERVICE)
    assert code == 0
    assert all(
        name in out for name in ("Coverage", "EnsureRange", "ReadRange", "ReadLast", "ListSeries", "ListMarkets")
    )


@pytest.mark.parametrize(
    "symbol",
    [
        f"{SERVICE}.ReadRange",
        "markethistory.v1.ReadRangeRequest",
        "markethistory.v1.ReadRangeRequest.max_chunk_bytes",
        "markethistory.v1.EnsureRangeResponse.event",
        "markethistory.v1.CoverageState",
        "markethistory.v1.CoverageState.COVERAGE_STATE_COVERED",
        "markethistory.v1.EnsureWait.Cause",
        "arrow.flight.protocol.FlightService",
        "arrow.flight.protocol.FlightService.DoGet",
        "arrow.flight.protocol.FlightData.data_body",
    ],
)
async def test_every_kind_of_symbol_can_be_described(grpcurl: Grpcurl, symbol: str) -> None:
    code, out = await grpcurl("describe", symbol)
    assert code == 0, out
    assert out.startswith(f"{symbol} is ")


async def test_a_symbol_that_is_not_there_is_not_found(grpcurl: Grpcurl) -> None:
    code, out = await grpcurl("describe", f"{SERVICE}.NoSuchMethod")
    assert code != 0
    assert "not found" in out


async def test_coverage_answers_as_json(grpcurl: Grpcurl) -> None:
    code, out = await grpcurl(f"{SERVICE}/Coverage", data=DAY)
    window = {"start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00:00Z"}
    assert code == 0, out
    assert json.loads(out) == {
        "range": window,
        "spans": [{"range": window, "state": "COVERAGE_STATE_MISSING"}],
    }


async def test_health_is_serving(grpcurl: Grpcurl) -> None:
    code, out = await grpcurl("grpc.health.v1.Health/Check")
    assert (code, json.loads(out)) == (0, {"status": "SERVING"})


async def test_an_error_is_shown_with_its_reason(grpcurl: Grpcurl) -> None:
    code, out = await grpcurl(f"{SERVICE}/Coverage", data='{"series":"BTCUSDT"}')
    assert code != 0
    assert "InvalidArgument" in out
    assert "INVALID_SERIES" in out
