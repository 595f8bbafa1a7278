"""An embedded store for tests: filled page by page here or by a process of its own, and checked row by row."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores.embedded import EmbeddedStore, open_embedded
from tests.rows import BTC, MINUTE, answer, bars, minutes, slots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from historyd.model.time_range import TimeRange

PAGE = 1000
"""Bars of a page."""
ROOT = Path(__file__).parent.parent
"""Where a child process finds `tests`."""
WRITER = """
import asyncio, sys
from pathlib import Path
from historyd.model.page import Layout
from historyd.model.venue import Origin
from historyd.stores.embedded import open_embedded
from tests.rows import BTC, answer, bars, minutes

async def write(path, first):
    async with open_embedded(path) as store:
        await store.open_series(BTC, Origin("h"), Layout(1000))
        for page in range(first, first + 10_000):
            window = minutes(page * 1000, page * 1000 + 1000)
            rows = bars(range(page * 1000, page * 1000 + 1000), float(page))
            await store.commit(BTC, answer(window, rows), rows)
            print(page, flush=True)

asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
"""
"""Writes pages to a store without end, saying the number of each once it is committed."""


async def fill(store: EmbeddedStore, pages: int, first: int = 0) -> None:
    """Opens the series and writes so many pages of it."""
    await store.open_series(BTC, Origin("h"), Layout(PAGE))
    for page in range(first, first + pages):
        await commit_page(store, page)


async def commit_page(store: EmbeddedStore, page: int, asked_at: int = 10**15) -> None:
    """Writes a page; the close of its bars is its number."""
    window = minutes(page * PAGE, page * PAGE + PAGE)
    rows = bars(range(page * PAGE, page * PAGE + PAGE), float(page))
    await store.commit(BTC, answer(window, rows, asked_at), rows)


async def row_count(store: EmbeddedStore, window: TimeRange) -> int:
    """How many bars a read of the window gives."""
    return len(await slots(store.read(BTC, window)))


async def checked_pages(path: Path) -> int:
    """Pages that are covered, each of whose rows was compared."""
    async with open_embedded(path) as store:
        (span,) = await store.coverage(BTC, minutes(0, 10**7))
        assert span.range.start == 0
        pages, rest = divmod(span.range.end, PAGE * MINUTE)
        assert rest == 0
        got = await slots(store.read(BTC, minutes(0, 10**7)))
        assert got == [(slot, float(slot // PAGE)) for slot in range(pages * PAGE)]
        return pages


@contextlib.contextmanager
def writing_process(path: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    """A process that runs WRITER from page `first` on; killed in the end."""
    command = [sys.executable, "-c", WRITER, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()
