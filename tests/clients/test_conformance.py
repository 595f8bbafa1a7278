"""Every client gives the same rows, spans, events and errors for the golden cases, and says so by the same digests."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients import golden
from tests.clients.digest import rows_digest
from tests.clients.golden_cases import CASES
from tests.clients.programs import LANGUAGES, ROOT, program

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES_FILE = Path(golden.HERE / "cases.json")
EXPECTED = {case["name"]: case["expect"] for case in json.loads(CASES_FILE.read_text(encoding="utf-8"))}


@contextmanager
def replaying() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A replay server of its own: its target and its process."""
    command = [sys.executable, "-m", "tests.clients.replay_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("listening on ")
        yield line.removeprefix("listening on ").strip(), server
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(timeout=20) == 0


def outcomes(command: list[str]) -> dict[str, dict[str, Any]]:
    """What a runner says of each case."""
    with replaying() as (target, _):
        done = subprocess.run(
            [*command, target, str(CASES_FILE)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
        )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len({outcome["case"] for outcome in found})
    return {outcome["case"]: outcome for outcome in found}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_gives_what_each_case_expects(language: str) -> None:
    found = outcomes(program(language, "conformance"))
    assert list(found) == list(EXPECTED)
    differing = {
        name: (found[name], expected)
        for name, expected in EXPECTED.items()
        if {key: found[name][key] for key in expected} != expected
    }
    assert differing == {}


def test_what_is_checked_in_is_what_the_cases_say() -> None:
    text, files = golden.documents(CASES)
    assert CASES_FILE.read_text(encoding="utf-8") == text, "run `python -m tests.clients.golden`"
    kept = {path.name: gzip.decompress(path.read_bytes()) for path in (golden.HERE / "golden").iterdir()}
    assert sorted(kept) == sorted(files)
    assert [name for name in files if files[name] != kept[name]] == [], "run `python -m tests.clients.golden`"


def test_the_digest_of_rows_is_over_the_bytes_that_the_readme_says() -> None:
    types = ["timestamp[us, tz=UTC]", "int32", "double", "string"]
    rows = "01 0100000000000000  01 02000000  01 000000000000f03f  01 03000000 e282ac" + "01 0200000000000000 00 00 00"
    assert rows_digest(types, [(1, 2, 1.0, "€"), (2, None, None, None)]) == sha256(bytes.fromhex(rows)).hexdigest()


def test_the_server_refuses_a_request_that_is_not_the_cases(tmp_path: Path) -> None:
    wrong = json.loads(CASES_FILE.read_text(encoding="utf-8"))[0] | {"columns": ["close"]}
    (tmp_path / "cases.json").write_text(json.dumps([wrong]))
    with replaying() as (target, _):
        command = [*program("python", "conformance"), target, str(tmp_path / "cases.json")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"] == "INVALID_FIELD"


def test_the_server_ends_on_sigterm() -> None:
    with replaying() as (_, server):
        server.terminate()
        assert server.wait(timeout=20) == 0
