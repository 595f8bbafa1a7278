"""The two wheels: each has all that it needs at run time, and the client stays small."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED_FOR_CLIENTS = {"googleapis-common-protos", "grpcio", "hpack", "protobuf", "pyarrow"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Both wheels as `uv build` makes them, by distribution."""
    target = tmp_path_factory.mktemp("wheels")
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv is not None, "run the tests with `uv run`"
    command = [uv, "build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(target)]
    subprocess.run(command, cwd=ROOT, check=True)
    return {path.name.partition("-")[0]: zipfile.ZipFile(path) for path in target.glob("*.whl")}


def source_files(root: Path, package: str) -> set[str]:
    files = (path for path in (root / package).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(root).as_posix() for path in files}


@pytest.mark.parametrize(("package", "root"), [("historyd", "server"), ("markethistory", "clients/python")])
def test_a_wheel_has_every_file_of_its_package_and_no_other(
    wheels: dict[str, zipfile.ZipFile], package: str, root: str
) -> None:
    packed = {name for name in wheels[package].namelist() if ".dist-info/" not in name}
    assert packed == source_files(ROOT / root, package)
    assert f"{package}/py.typed" in packed


def test_the_client_brings_five_distributions_and_nothing_else(wheels: dict[str, zipfile.ZipFile]) -> None:
    (metadata,) = (name for name in wheels["markethistory"].namelist() if name.endswith(".dist-info/METADATA"))
    required = Parser().parsestr(wheels["markethistory"].read(metadata).decode()).get_all("Requires-Dist", [])
    plain = {line.split("<")[0].split(">")[0].split("=")[0] for line in required if "extra ==" not in line}
    assert plain == ALLOWED_FOR_CLIENTS
