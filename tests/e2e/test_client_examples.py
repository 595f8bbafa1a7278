"""The example in each client's README is a program that runs: it reads from a real server, which fetches first."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import LANGUAGES, ROOT, program

if TYPE_CHECKING:
    from tests.e2e.serving import Serving

SOURCES = {
    "go": ("clients/go/examples/read/main.go", "go"),
    "rust": ("clients/rust/examples/read.rs", "rust"),
    "java": ("clients/java/src/test/java/io/markethistory/programs/Example.java", "java"),
    "typescript": ("clients/typescript/programs/example.ts", "ts"),
}
"""Each example's source, and the name of its language in the README's fences."""


def blocks(readme: str, fence: str) -> list[str]:
    """The blocks of code of a language in a README."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    return re.findall(rf"^```{fence}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


async def output_of(*command: str) -> str:
    """What a program that ends well prints."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "python"])
async def test_an_example_reads_a_day_that_the_server_fetches_first(language: str, connected: Serving) -> None:
    command = program(language, "example")
    for _ in ("fetched", "stored"):
        out = await output_of(*command, connected.address)
        assert out.splitlines()[-1] == "1440 rows"


@pytest.mark.parametrize("language", SOURCES)
def test_the_readme_shows_the_example_that_is_run(language: str) -> None:
    path, fence = SOURCES[language]
    source = (ROOT / path).read_text(encoding="utf-8")
    readme = f"clients/{language}/README.md"
    assert any(len(block.splitlines()) >= 10 and source.endswith(block) for block in blocks(readme, fence))


async def test_pythons_readme_reads_what_it_says(connected: Serving) -> None:
    shown = blocks("clients/python/README.md", "python")[0].replace("127.0.0.1:50051", connected.address)
    out = await output_of(sys.executable, "-c", f"{shown}\nprint(table.num_rows, recent.num_rows, len(frame))")
    assert out.split()[::2] == ["42480", "42480"]
