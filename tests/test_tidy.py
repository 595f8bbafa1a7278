"""The walls of the house, its sizes and its manners, checked from the syntax tree; and the checker itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy import MAX_FILE_LINES, MAX_FUNCTION_LINES, Violation, check_module, check_text

ROOT = Path(__file__).resolve().parent.parent
PYTHON_ROOTS = ("server", "clients/python", "tests", "benchmarks", "proto")
TEXT_PATTERNS = ("proto/**/*.proto", "server/**/*.sql", "server/**/*.lua", "docs/*.md", "*.md", ".ci/*", "Makefile")


def modules() -> list[tuple[str, str, str]]:
    """Path, dotted name and source of every Python module that is not generated."""
    found = []
    for root in PYTHON_ROOTS:
        # Server and client are import roots; the others are imported from the top.
        base = ROOT / root if root in ("server", "clients/python") else ROOT
        for file in sorted((ROOT / root).rglob("*.py")):
            if "_pb2" not in file.name:
                parts = file.relative_to(base).with_suffix("").parts
                dotted = ".".join(parts).removesuffix(".__init__")
                found.append((file.relative_to(ROOT).as_posix(), dotted, file.read_text(encoding="utf-8")))
    return found


def report(violations: list[Violation]) -> str:
    return "\n".join(map(str, violations))


def test_every_module_keeps_the_rules() -> None:
    checked = modules()
    violations = [violation for module in checked for violation in check_module(*module)]
    assert not violations, report(violations)
    assert {"historyd.engine.history", "markethistory.client", "tests.test_tidy"} <= {name for _, name, _ in checked}


def test_every_other_text_keeps_the_rules() -> None:
    files = [file for pattern in TEXT_PATTERNS for file in ROOT.glob(pattern)]
    # A changelog only grows; its length says nothing.
    prose = [file for file in files if file.name not in ("CHANGELOG.md", "LICENSE")]
    texts = [(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) for file in prose]
    violations = [violation for path, text in texts for violation in check_text(path, text)]
    assert not violations, report(violations)


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_names_the_two_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


DOC = '"""Says what it is."""\n'


@pytest.mark.parametrize(
    ("module", "line", "mend"),
    [
        ("historyd.engine.reading", "import grpc", "grpc belongs to historyd.service"),
        ("historyd.engine.reading", "from markethistory.v1 import series_pb2", "markethistory.v1 belongs to"),
        ("historyd.engine.reading", "def f():\n    import ccxt.async_support", "ccxt belongs to historyd.sources"),
        ("historyd.engine.reading", "import asyncpg", "asyncpg belongs to historyd.stores"),
        ("historyd.engine.reading", "import redis.asyncio", "redis belongs to historyd.ratelimit"),
        ("historyd.engine.reading", "x = importlib.import_module('ccxt')", "ccxt belongs to historyd.sources"),
        ("historyd.engine.reading", "from historyd.stores.embedded import open_embedded", "use the protocol"),
        ("historyd.engine.reading", "from historyd.stores import embedded", "use the protocol"),
        ("historyd.engine.reading", "from ..stores import embedded", "use the protocol"),
        ("historyd.engine.reading", "if TYPE_CHECKING:\n    from historyd.app import serve", "use the protocol"),
        ("historyd.service.convert", "from historyd.sources.ccxt import CcxtSource", "ask the engine"),
        ("historyd.service.convert", "from historyd.stores.embedded import open_embedded", "ask the engine"),
        ("historyd.stores.embedded", "from historyd.engine.events import EnsurePlan", "let engine or app do"),
        ("historyd.sources.ccxt", "from historyd.ratelimit.local import LocalLimiter", "take a Limiter"),
        ("historyd.demo.exchange", "from historyd.engine.history import HistoryEngine", "historyd.engine belongs to"),
        ("historyd.planner", "from historyd.engine.events import EnsurePlan", "keep it pure"),
        ("historyd.model.page", "from historyd.coverage import Span", "the model knows no behaviour"),
        ("historyd.errors", "from historyd.model.series import SeriesId", "pass plain values"),
        ("historyd.ratelimit.redis", "from historyd.sources.base import Source", "a limiter knows"),
        ("historyd.novelty", "import json", "say in WALLS"),
        ("markethistory.client", "from historyd.model.rows import BARS", "a client speaks the contract"),
    ],
)
def test_a_planted_breach_of_a_wall_is_found_with_its_mend(module: str, line: str, mend: str) -> None:
    violations = check_module("planted.py", module, DOC + line)
    assert [violation.mend for violation in violations if mend in violation.mend], report(violations)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("historyd.engine.reading", "from historyd.stores.base import Store"),
        ("historyd.engine.reading", "from historyd.engine import events"),
        ("historyd.service.history_service", "from historyd.engine.history import HistoryEngine\nimport grpc"),
        ("historyd.service.convert", "from markethistory.v1 import series_pb2"),
        ("historyd.app", "from historyd.stores.embedded import open_embedded"),
        ("historyd.sources.ccxt", "import ccxt.async_support"),
        ("historyd.model.page", "from .timeframe import FixedGrid"),
        ("markethistory.client", "import grpc\nfrom markethistory.v1 import series_pb2"),
        ("tests.unit.test_any", "from historyd.stores.embedded import open_embedded\nimport grpc"),
    ],
)
def test_an_import_that_is_allowed_is_left_alone(module: str, line: str) -> None:
    assert check_module("planted.py", module, DOC + line) == []


def test_a_function_one_line_too_long_is_found() -> None:
    body = "".join(f"    x = {number}\n" for number in range(MAX_FUNCTION_LINES))
    assert "has 71 lines" in report(check_module("planted.py", "tests.planted", f"{DOC}def f():\n{body}"))
    shorter = body.removesuffix(f"    x = {MAX_FUNCTION_LINES - 1}\n")
    assert check_module("planted.py", "tests.planted", f"{DOC}def f():\n{shorter}") == []


def test_a_file_one_line_too_long_is_found() -> None:
    assert check_text("planted.md", "line\n" * MAX_FILE_LINES) == []
    assert "501 lines" in report(check_text("planted.md", "line\n" * (MAX_FILE_LINES + 1)))


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
def test_a_mark_of_unfinished_work_is_found(mark: str) -> None:
    assert [found.line for found in check_text("planted.md", f"fine\n# {mark}: later\n")] == [2]


@pytest.mark.parametrize("name", ["helpers.py", "ccxt_util.py", "common.py", "lease_manager.py", "misc.py"])
def test_a_module_named_after_nothing_is_found(name: str) -> None:
    assert "the name says" in report(check_module(f"tests/{name}", "tests.planted", DOC))


def test_a_module_without_a_docstring_is_found() -> None:
    assert "no docstring" in report(check_module("planted.py", "tests.planted", "x = 1\n"))
    assert check_module("__init__.py", "tests.planted", "") == []
