"""TLS and tokens, with real servers and an authority of our own."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow.flight as fl
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

import markethistory
from historyd import healthcheck
from markethistory import AccessDenied, Tls, Unavailable, aio
from markethistory.cli.app import app
from tests.e2e.serving import READY, environment
from tests.pki import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERIES = "ohlcv:binance:BTC/USDT:1m"
TOKEN = "t0ken-of-the-tests"
OTHER = "0ther-token-that-is-known-too"
# What is read here was never fetched, which is not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::markethistory.IncompleteHistoryWarning")
ONE_TRY = markethistory.RetryPolicy(attempts=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def serving(folder: Path, settings: dict[str, Any], listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """`historyd serve` with these settings; gives its target. Its log is `log` in the folder."""
    (folder / "historyd.yaml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "historyd", "serve", "--config", "historyd.yaml", "--listen", listen),
            cwd=folder,
            env=environment(TEST_TOKEN=TOKEN),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line.startswith(READY), (folder / "log").read_text()
        yield line.removeprefix(READY).partition(b",")[0].decode()
    finally:
        process.terminate()  # so that it writes the last lines of its log
        await process.communicate()


def tls_of(authority: Authority, **more: Path) -> dict[str, Any]:
    pair = authority.pair("server")
    return {"tls": {"certificate": str(pair.certificate), "key": str(pair.key), **{k: str(v) for k, v in more.items()}}}


TOKENS = {"tokens": ["${TEST_TOKEN}", OTHER]}


async def test_with_tls_and_tokens_everything_works_for_those_who_may(tmp_path: Path, authority: Authority) -> None:
    async with serving(tmp_path, {**tls_of(authority), **TOKENS}) as target:
        for token in (TOKEN, OTHER):
            async with aio.connect(target, tls=Tls(ca=authority.file), token=token) as history:
                await ask_everything(history)

        def ask() -> None:
            with markethistory.connect(target, tls=Tls(ca=authority.file), token=TOKEN) as history:
                assert history.coverage(SERIES)
                assert history.read(SERIES, "2024-01-01", "2024-01-02", ensure=False).num_rows == 0
                assert history.last(SERIES, 5, ensure=False).num_rows == 0
                assert history.series() == []

        await asyncio.to_thread(ask)


async def ask_everything(history: aio.AsyncClient) -> None:
    assert await history.coverage(SERIES)
    assert (await history.read(SERIES, "2024-01-01", "2024-01-02", ensure=False)).num_rows == 0
    assert (await history.last(SERIES, 5, ensure=False)).num_rows == 0
    assert await history.series() == []


@pytest.mark.parametrize(
    ("token", "problem"),
    [(None, "missing"), ("a-wrong-token-of-tests", "wrong token"), (TOKEN[:-1], "wrong token")],
)
async def test_without_a_known_token_no_call_is_answered(tmp_path: Path, token: str | None, problem: str) -> None:
    async with serving(tmp_path, TOKENS) as target, aio.connect(target, token=token, retry=ONE_TRY) as history:
        for call in (
            history.coverage(SERIES),
            history.read(SERIES, "2024-01-01", "2024-01-02"),
            history.last(SERIES, 5),
            history.ensure(SERIES, "2024-01-01"),
            history.series(),
        ):
            with pytest.raises(AccessDenied, match="authorization: Bearer TOKEN") as refused:
                await call
            assert refused.value.reason == "UNAUTHENTICATED"
            assert refused.value.metadata == {"header": "authorization", "problem": problem}
    assert "UNAUTHENTICATED" in (tmp_path / "log").read_text()
    assert (token or "no token") not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("target", ["history.example:50051", "192.168.0.1:50051", "127.example:1"])
async def test_a_token_does_not_go_to_another_machine_without_tls(target: str) -> None:
    for connect in (markethistory.connect, aio.connect):
        with pytest.raises(ValueError, match="token: needs tls"):
            connect(target, token=TOKEN)


async def test_health_and_reflection_need_no_token(tmp_path: Path) -> None:
    async with serving(tmp_path, TOKENS) as target, grpc.aio.insecure_channel(target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed = await reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked).read()
        assert "markethistory.v1.HistoryService" in [one.name for one in listed.list_services_response.service]


async def test_flight_needs_a_token(tmp_path: Path) -> None:
    def flights(target: str, token: str) -> list[Any]:
        options = fl.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
        with fl.connect(f"grpc://{target}") as client:
            return list(client.list_flights(options=options))

    async with serving(tmp_path, TOKENS) as target:
        assert await asyncio.to_thread(flights, target, TOKEN) == []
        with pytest.raises(fl.FlightUnauthenticatedError):
            await asyncio.to_thread(flights, target, "a-wrong-token-of-tests")


async def test_a_client_that_does_not_trust_the_server_asks_nothing(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    async with serving(tmp_path, tls_of(authority)) as target:
        for tls in (Tls(ca=other.file), True, False):
            async with aio.connect(target, tls=tls, retry=ONE_TRY) as history:
                with pytest.raises(Unavailable):
                    await history.coverage(SERIES)


async def test_a_server_that_asks_clients_for_a_certificate(tmp_path: Path, authority: Authority) -> None:
    mine = authority.pair("client")
    async with serving(tmp_path, tls_of(authority, client_ca=authority.file)) as target:
        shown = Tls(ca=authority.file, certificate=mine.certificate, key=mine.key, server_name="localhost")
        async with aio.connect(target, tls=shown) as history:
            assert await history.coverage(SERIES)
        async with aio.connect(target, tls=Tls(ca=authority.file), retry=ONE_TRY) as history:
            with pytest.raises(Unavailable):
                await history.coverage(SERIES)


async def test_a_certificate_is_renewed_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    renewing = Authority(tmp_path, "renewing")

    async def problem_of(trusted: Authority) -> str | None:
        async with aio.connect(target, tls=Tls(ca=trusted.file), retry=ONE_TRY) as history:
            try:
                await history.coverage(SERIES)
            except Unavailable as refused:
                return str(refused)
        return None

    async with (
        serving(tmp_path, tls_of(authority)) as target,
        aio.connect(target, tls=Tls(ca=authority.file)) as connected,
    ):
        assert await connected.coverage(SERIES)
        assert await problem_of(renewing) is not None
        pair = renewing.pair("server")  # the same files
        assert await problem_of(renewing) is None
        assert await problem_of(authority) is not None
        pair.key.write_text("no key")
        assert await problem_of(renewing) is None
        assert await connected.coverage(SERIES)  # over the connection that it has
    assert "the certificate read before stays in use" in (tmp_path / "log").read_text()


async def test_the_command_line_takes_token_and_authority_from_the_environment(
    tmp_path: Path, authority: Authority
) -> None:
    secrets = {"MARKETHISTORY_TOKEN": TOKEN, "MARKETHISTORY_CA": str(authority.file)}

    def exit_code(*words: str, **variables: str) -> int:
        return CliRunner().invoke(app, list(words), env=secrets | variables).exit_code

    async with serving(tmp_path, {**tls_of(authority), **TOKENS}) as target:
        for words, variables, code in (
            (("series", "--server", f"https://{target}"), {}, 0),
            (("coverage", SERIES, "--server", f"https://{target}"), {}, 0),
            (("series", "--server", f"https://{target}"), {"MARKETHISTORY_TOKEN": ""}, 1),
            (("series", "--server", target), {}, 2),
            (("series", "--server", f"https://{target}/path"), {}, 2),
        ):
            assert await asyncio.to_thread(exit_code, *words, **variables) == code, (words, variables)


async def test_the_health_check_speaks_tls(tmp_path: Path, authority: Authority) -> None:
    async with serving(tmp_path, {**tls_of(authority), **TOKENS}) as target:
        assert await asyncio.to_thread(healthcheck.check, target, authority.file) is None
        assert await asyncio.to_thread(healthcheck.check, target) == f"no answer from {target}: UNAVAILABLE"


async def test_a_start_tells_of_a_port_that_others_reach(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, listen="0.0.0.0:0"):
        assert "is open to whoever reaches it" in (tmp_path / "log").read_text()
