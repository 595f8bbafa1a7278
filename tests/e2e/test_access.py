"""TLS and tokens, with real servers and an authority of our own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import markethistory
from markethistory import AccessDenied, Tls, Unavailable, aio
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


async def test_health_needs_no_token_and_reflection_does(tmp_path: Path) -> None:
    async with serving(tmp_path, TOKENS) as target, grpc.aio.insecure_channel(target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            await reflection.ServerReflectionInfo(requests).read()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        allowed = reflection.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]),
            metadata=(("authorization", f"bearer {TOKEN}"),),
        )
        listed = await allowed.read()
        assert "grpc.health.v1.Health" in [one.name for one in listed.list_services_response.service]


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


async def test_the_command_line_takes_token_and_authority_from_the_environment(
    tmp_path: Path, authority: Authority
) -> None:
    async with serving(tmp_path, {**tls_of(authority), **TOKENS}) as target:
        secrets = {"MARKETHISTORY_TOKEN": TOKEN, "MARKETHISTORY_CA": str(authority.file)}
        assert await command("series", "--server", f"https://{target}", **secrets) == 0
        assert await command("coverage", SERIES, "--server", f"https://{target}", **secrets) == 0
        assert await command("series", "--server", f"https://{target}", **secrets | {"MARKETHISTORY_TOKEN": ""}) == 1
        assert await command("series", "--server", target, **secrets) == 2


async def test_the_health_check_speaks_tls(tmp_path: Path, authority: Authority) -> None:
    async with serving(tmp_path, {**tls_of(authority), **TOKENS}) as target:
        check = (sys.executable, "-m", "historyd.healthcheck", target)
        trusting = await asyncio.create_subprocess_exec(*check, str(authority.file))
        assert await trusting.wait() == 0
        plain = await asyncio.create_subprocess_exec(*check, stderr=asyncio.subprocess.DEVNULL)
        assert await plain.wait() == 1


async def command(*words: str, **variables: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from markethistory.cli import main; main()", *words),
        env=os.environ | variables,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


async def test_a_start_tells_of_a_port_that_others_reach(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, listen="0.0.0.0:0"):
        assert "is open to whoever reaches it" in (tmp_path / "log").read_text()
