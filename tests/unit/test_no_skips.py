"""The rule of tests/conftest.py: in CI a skip is a failure. Shown by running pytest on small files of tests."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SKIPS_ITSELF = "import pytest\ndef test_one():\n    pytest.skip('no tool here')\n"
SKIPS_ITS_MODULE = "import pytest\npytest.skip('no tool here', allow_module_level=True)\n"
MARKED = "import pytest\n@pytest.mark.skip(reason='no tool here')\ndef test_one(): pass\n"
PASSES = "def test_one(): pass\n"


def run_pytest(folder: Path, source: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_planted.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [SKIPS_ITSELF, SKIPS_ITS_MODULE, MARKED])
def test_in_ci_a_skip_fails_and_names_its_reason(tmp_path: Path, source: str) -> None:
    done = run_pytest(tmp_path, source, ci="true")
    assert done.returncode not in (0, 5), done.stdout
    assert "no tool here" in done.stdout
    assert "Nothing may be skipped in CI" in done.stdout


@pytest.mark.parametrize("source", [SKIPS_ITSELF, MARKED])
def test_at_home_a_skip_is_a_skip(tmp_path: Path, source: str) -> None:
    assert run_pytest(tmp_path, source, ci="").returncode == 0


def test_in_ci_a_passing_test_passes(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, PASSES, ci="true").returncode == 0
