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


def program(language: str, name: str) -> list[str]:
    """The command that runs a program; the test is left out at home if it was not built, and fails in CI."""
    if language == "python":
        return [sys.executable, "-m", f"tests.clients.{name}_python"]
    path = BUILT / language / name
    if not path.exists():
        pytest.skip(f"no {path.relative_to(ROOT)}: `make clients-{language}` builds it, with the language's tools")
    return [str(path)]
