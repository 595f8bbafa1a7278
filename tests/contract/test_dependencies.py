"""What the two distributions import is what they declare: an install without the development tools has it all."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.tidy import imports

ROOT = Path(__file__).resolve().parents[2]
UNDECLARED = {
    "markethistory": {"pandas", "polars"},  # imported only where a user who has them asks for them
    "historyd": {"pydantic-core"},  # pydantic's own, pinned by it
}


def normal(name: str) -> str:
    return re.split(r"[\[<>=!~; ]", name, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def declared(pyproject: Path) -> set[str]:
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    return {normal(line) for lines in (project["dependencies"], *extras) for line in lines}


def imported(root: Path) -> dict[str, str]:
    """Distributions that a package imports, each with a file that does; the standard library and itself left out."""
    owners = packages_distributions()
    found = {}
    for file in root.rglob("*.py"):
        for _, name in imports(ast.parse(file.read_text(encoding="utf-8")), "any"):
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in {root.name, "google"}:
                for owner in owners.get(top, [top]):
                    found[normal(owner)] = file.name
    return found


@pytest.mark.parametrize(
    ("package", "pyproject"),
    [("server/historyd", "pyproject.toml"), ("clients/python/markethistory", "clients/python/pyproject.toml")],
)
def test_every_import_is_declared(package: str, pyproject: str) -> None:
    root = ROOT / package
    allowed = declared(ROOT / pyproject) | UNDECLARED[root.name]
    undeclared = {name: file for name, file in imported(root).items() if name not in allowed}
    assert undeclared == {}, "declare it in the distribution's pyproject.toml, then `uv lock`"
