"""`historyd demo`, as `make demo` runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_serve import run

if TYPE_CHECKING:
    from pathlib import Path


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@pytest.mark.slow
async def test_the_demo_asks_twice_and_calls_the_exchange_for_the_first_ask_alone(tmp_path: Path) -> None:
    """It ends well, leaves nothing behind, minds no settings of the user's, and its last line is what it measured."""
    mine = {"HISTORYD_STORE__EMBEDDED__PATH": str(tmp_path / "mine.db"), "TMPDIR": str(tmp_path)}
    code, out, err = await run(tmp_path, "demo", **mine)
    assert (code, err) == (0, "")
    figures = json.loads(out.splitlines()[-1])
    assert set(figures) == {"rows", "calls_first", "calls_second", "first_row_ms", "read_rows_per_s"}
    assert figures["rows"] == (31 * 24 - 36) * 60
    assert 40 <= figures["calls_first"] <= 60
    assert figures["calls_second"] == 0
    assert figures["first_row_ms"] > 0
    assert "no bars there" in out
    assert left_in(tmp_path) == []
