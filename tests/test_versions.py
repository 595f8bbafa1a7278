"""All distributions are released together: pyproject.toml says the version, and every other place says the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
PLACES = {
    "pyproject.toml": r'"markethistory\[cli\]==([^"]+)"',
    "clients/python/pyproject.toml": r'^version = "([^"]+)"',
    "clients/go/doc.go": r'^const Version = "([^"]+)"',
    "clients/rust/Cargo.toml": r'^version = "([^"]+)"',
    "clients/java/pom.xml": r"<artifactId>markethistory</artifactId>\n  <version>([^<]+)<",
    "clients/java/README.md": r"<version>([^<]+)<",
    "clients/typescript/package.json": r'^  "version": "([^"]+)"',
    "clients/typescript/package-lock.json": r'^  "name": "markethistory",\n  "version": "([^"]+)"',
    "clients/rust/Cargo.lock": r'^name = "markethistory"\nversion = "([^"]+)"',
}


@pytest.mark.parametrize("place", PLACES)
def test_the_version_is_the_same_everywhere(place: str) -> None:
    found = re.findall(PLACES[place], (ROOT / place).read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [VERSION]


def test_every_client_is_among_the_places() -> None:
    clients = {path.name for path in (ROOT / "clients").iterdir() if path.is_dir()}
    assert clients == {Path(place).parts[1] for place in PLACES if place.startswith("clients/")}
