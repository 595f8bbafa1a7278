"""docs/inspect.md is true: its commands are run, in its order, against real servers, and print what it shows."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from markethistory.v1 import coverage_pb2, error_reason_pb2, history_service_pb2, quality_pb2, series_pb2
from tests.e2e.serving import Serving, serve_process
from tests.e2e.test_grpcurl import find_grpcurl
from tests.pki import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[2] / "docs/inspect.md"
ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):50051")
TOKEN = "t0ken-of-the-tests"
FILES = (coverage_pb2, error_reason_pb2, history_service_pb2, quality_pb2, series_pb2)


@dataclass(frozen=True)
class Example:
    """One block of commands under a heading, and what the page shows below it."""

    heading: str
    script: str
    shown: str

    @property
    def expression(self) -> re.Pattern[str]:
        """What the output must hold: the lines shown, without regard to what `...` stands for."""
        lines = [
            r"(?s:.*?)" if line.strip() == "..." else re.escape(line).replace(re.escape("..."), ".*")
            for line in self.shown.splitlines()
        ]
        return re.compile("\n".join(lines))


def examples() -> Iterator[Example]:
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        for found in re.finditer(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", section, re.DOTALL | re.MULTILINE):
            yield Example(heading, found[1], (found[2] or "").rstrip("\n"))


async def output_of(script: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a block, run as a person's shell would, with grpcurl and our Python at hand."""
    grpcurl = find_grpcurl()
    if grpcurl is None:
        pytest.skip("no grpcurl: name it in GRPCURL, or let `make test` build it (needs Go)")
    tools = os.pathsep.join([str(Path(grpcurl).parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        env=os.environ | {"PATH": tools, "TOKEN": TOKEN},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def check(example: Example, code: int, out: str) -> None:
    assert (code != 0) == (example.heading == "Errors"), f"{example.script}\n{out}"
    assert example.expression.search(out), f"{example.script}\n{out}"


@pytest.mark.slow
async def test_each_command_prints_what_the_page_shows(connected: Serving, tmp_path: Path) -> None:
    plain = [example for example in examples() if "-plaintext" in example.script]
    assert len(plain) >= 14
    for example in plain:
        check(example, *await output_of(ADDRESS.sub(connected.address, example.script), tmp_path))


@pytest.mark.slow
async def test_the_commands_for_tls_and_tokens_do_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.pair("server")
    settings = {"tls": {"certificate": str(pair.certificate), "key": str(pair.key)}, "tokens": [TOKEN]}
    (tmp_path / "historyd.yaml").write_text(json.dumps(settings))
    secure = [example for example in examples() if "-cacert" in example.script]
    assert secure
    async with serve_process(tmp_path, "--config", "historyd.yaml") as serving:
        for example in secure:
            check(example, *await output_of(ADDRESS.sub(serving.address, example.script), tmp_path))


def test_the_page_has_no_command_that_is_not_run() -> None:
    scripts = [example.script for example in examples()]
    assert PAGE.read_text(encoding="utf-8").count("```sh\n") == len(scripts)
    for script in scripts:
        assert ADDRESS.search(script)
        assert "-plaintext" in script or "-cacert" in script


async def test_every_symbol_of_the_contract_can_be_described(served: Serving) -> None:
    """As grpcurl's `describe` asks for it: reflection names the file that holds it."""
    symbols = [name for module in FILES for name in symbols_of(module.DESCRIPTOR)]
    assert {"markethistory.v1.HistoryService.ReadRange", "markethistory.v1.ReadSummary.complete"} <= set(symbols)
    async with grpc.aio.insecure_channel(served.address) as channel:
        asked = (reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols)
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
        unknown = [
            answer.original_request.file_containing_symbol
            async for answer in answers
            if not answer.HasField("file_descriptor_response")
        ]
    assert unknown == []


def symbols_of(file: object) -> Iterator[str]:
    """Every service, method, message, field, enum and value of a file, by full name."""
    for service in file.services_by_name.values():  # type: ignore[attr-defined]  # a FileDescriptor
        yield from (service.full_name, *(method.full_name for method in service.methods))
    for message in file.message_types_by_name.values():  # type: ignore[attr-defined]
        yield message.full_name
        yield from (field.full_name for field in message.fields)
        yield from (f"{nested.full_name}" for nested in (*message.nested_types, *message.enum_types))
    for enum in file.enum_types_by_name.values():  # type: ignore[attr-defined]
        yield enum.full_name
        yield from (f"{enum.full_name}.{value.name}" for value in enum.values)
