"""Every client speaks TLS and shows its token: a real historyd that wants both answers each of them."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.digest import error_digest, lines_digest
from tests.clients.programs import LANGUAGES, ROOT, program
from tests.e2e.serving import serve_process
from tests.pki import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "t0ken-of-the-tests"
DAY = (1_704_067_200_000_000, 1_704_153_600_000_000)
CASE = {
    "name": "nothing stored",
    "series": "ohlcv:binance:BTC/USDT:1m",
    "call": "coverage",
    "start": "2024-01-01T00:00:00Z",
    "end": "2024-01-02T00:00:00Z",
    "last": None,
    "columns": None,
    "compression": "none",
}


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """A server that wants TLS and a token: its target, and the environment of those who may ask."""
    authority = Authority(folder)
    pair = authority.pair("server")
    settings = {"tls": {"certificate": str(pair.certificate), "key": str(pair.key)}, "tokens": [TOKEN]}
    (folder / "historyd.yaml").write_text(json.dumps(settings))
    (folder / "cases.json").write_text(json.dumps([CASE]))
    async with serve_process(folder, "--config", "historyd.yaml") as serving:
        yield serving.address, {"CONFORMANCE_CA": str(authority.file), "CONFORMANCE_TOKEN": TOKEN}


async def outcome(command: list[str], target: str, folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(*command, target, str(folder / "cases.json")),
        cwd=ROOT,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_client_with_tls_and_token_is_answered_and_others_are_told_why(language: str, tmp_path: Path) -> None:
    command = program(language, "conformance")
    async with guarded(tmp_path) as (target, may):
        found = await outcome(command, target, tmp_path, may)
        assert (found["rows"], found["error"]) == (0, None)
        assert found["digest"] == lines_digest([(*DAY, "MISSING", 0)])

        found = await outcome(command, target, tmp_path, may | {"CONFORMANCE_TOKEN": "a-wrong-token-of-tests"})
        told = {"header": "authorization", "problem": "wrong token"}
        assert found["error"] == "UNAUTHENTICATED"
        assert found["digest"] == error_digest("UNAUTHENTICATED", told, None)
