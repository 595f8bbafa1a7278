"""The example in each client's README is a program that runs: it reads from a real server, which fetches first."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import ROOT, built

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


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_examples_read_what_the_server_fetches_first(connected: Serving) -> None:
    """One server for all of them: the first makes it fetch the day, the others get what is stored."""
    missing = []
    for language in SOURCES:
        if (command := built(language, "example")) is None:
            missing.append(language)
        else:
            out = await output_of(*command, connected.address)
            assert out.splitlines()[-1] == "1440 rows", language
    shown = blocks("clients/python/README.md", "python")[0].replace("127.0.0.1:50051", connected.address)
    out = await output_of(sys.executable, "-c", f"{shown}\nprint(table.num_rows, recent.num_rows, len(frame))")
    assert out.split() == ["44640", "120", "44640"]
    if missing:
        pytest.skip(f"`make clients` did not build the programs of {', '.join(missing)}")


@pytest.mark.parametrize("language", SOURCES)
def test_the_readme_shows_the_example_that_is_run(language: str) -> None:
    path, fence = SOURCES[language]
    source = (ROOT / path).read_text(encoding="utf-8")
    readme = f"clients/{language}/README.md"
    assert any(len(block.splitlines()) >= 10 and source.endswith(block) for block in blocks(readme, fence))
