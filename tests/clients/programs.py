"""Where the clients' programs are: each language builds three of the same names into a folder of its own.

`conformance TARGET CASES` runs the cases, `example TARGET` is the example of the client's README, `bench` answers the
benchmark. Python's runner is a module, the others' are built by `make clients`. README.md says what each prints.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
BUILT: Final = ROOT / ".tools/clients"
LANGUAGES: Final = ("python", "go", "rust", "java", "typescript")


def built(language: str, name: str) -> list[str] | None:
    """The command that runs a program; None if it was not built."""
    if language == "python":
        return [sys.executable, "-m", f"tests.clients.{name}_python"]
    path = BUILT / language / name
    return [str(path)] if path.exists() else None


def program(language: str, name: str) -> list[str]:
    """The same; the test is left out at home if it was not built, and fails in CI."""
    command = built(language, name)
    if command is None:
        pytest.skip(f"no program of {language}: `make clients-{language}` builds it, with the language's tools")
    return command
