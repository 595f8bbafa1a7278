"""`backfill`: an unlimited exchange on loopback, to the store, against a bare ccxt loop that stores nothing.

Each round takes a new range of one symbol, so nothing of it is covered. In rounds of their own, small reads of
another series go on all the while.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.rig.few_reads import ROWS, YEAR
from benchmarks.rig.history import Shape, fill, historyd, loopback_exchange, series_of
from benchmarks.rig.pairing import median, milliseconds, paired, say, times_faster
from benchmarks.rig.processes import Worker, working

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMBOL = "BTC/USDT"
BARS = f"ohlcv:binance:{SYMBOL}:1m"
FIRST = datetime(2018, 1, 1, tzinfo=UTC)
READS_AT_ONCE = 20


def run(rows: int = 200_000, rounds: int = 9, stored: int = YEAR) -> dict[str, Any]:
    """Both sides' rows a second, the ratio, and what small reads feel of a backfill."""
    with ExitStack() as stack:
        store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "bench.db"
        url = stack.enter_context(loopback_exchange())
        fill(store, {series_of(stored): stored}, Shape(host=urlsplit(url).netloc))
        _, address = stack.enter_context(historyd(store, exchange_url=url))
        filler = stack.enter_context(working("history", address))
        reader = stack.enter_context(working("history", address))
        bare = stack.enter_context(working("ccxt", url))
        ranges = _ranges(rows)
        _ensure(filler, 1_000, ranges)  # its markets are loaded, as the bare loop's are
        contenders = {
            "history": partial(_ensure, filler, rows, ranges),
            "ccxt": partial(_bare, bare, rows, ranges),
        }
        found = paired(f"{rows} rows", rounds, contenders)
        idle = milliseconds(_few(reader, stored, 50 * READS_AT_ONCE))
        _begin(filler, 5 * rows, ranges)
        meanwhile = milliseconds(_reads_until_done(filler, reader, stored))
    return {
        "ratio_to_bare_ccxt": times_faster(found["history"], found["ccxt"]),
        "rows_per_s": round(rows / median(found["history"])),
        "bare_ccxt_rows_per_s": round(rows / median(found["ccxt"])),
        **{f"small_read_idle_{name}": value for name, value in idle.items()},
        **{f"small_read_{name}": value for name, value in meanwhile.items()},
    }


def _ranges(rows: int) -> Iterator[datetime]:
    """Where each round begins: a range that no other round touches."""
    return (FIRST + number * timedelta(minutes=rows) for number in count())


def _begin(filler: Worker, rows: int, ranges: Iterator[datetime]) -> None:
    start = next(ranges)
    end = start + timedelta(minutes=rows)
    filler.begin("ensure", series=BARS, start=start.isoformat(), end=end.isoformat())


def _ensure(filler: Worker, rows: int, ranges: Iterator[datetime]) -> float:
    _begin(filler, rows, ranges)
    done = filler.answer()
    assert done["rows"] >= rows, done
    return float(done["seconds"][0])


def _bare(bare: Worker, rows: int, ranges: Iterator[datetime]) -> float:
    done = bare.ask("fetch", symbol=SYMBOL, start_ms=int(next(ranges).timestamp()) * 1000, rows=rows)
    assert done["rows"] >= rows, done
    return float(done["seconds"])


def _few(reader: Worker, stored: int, times: int) -> list[float]:
    return list(reader.ask("last", series=series_of(stored), rows=ROWS, times=times))


def _reads_until_done(filler: Worker, reader: Worker, stored: int) -> list[float]:
    """Seconds of small reads, one after the other for as long as the backfill that was begun runs."""
    say("small reads during a backfill")
    seconds: list[float] = []
    while not filler.has_answered():
        seconds += _few(reader, stored, READS_AT_ONCE)
    filler.answer()
    return seconds
