"""`clients`: a stored year of minutes to a table of each language, against that language's own Arrow Flight client.

Ours reads from a real historyd on its store, Flight's from a stock server that has the rows in memory. Each client is
one process that reads many times (steady; what a JIT compiles is compiled), one language after the other, its two
clients in turns. How fast a process is depends on where its memory came to lie, so all that have a ratio are started
anew some times. Ratios are speed by speed, medians over paired rounds; peak memory is that of the client's process over
all its reads.
`make clients-bench` builds the programs of the other languages first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.rig.bars import END, start_of
from benchmarks.rig.history import fill, historyd, series_of
from benchmarks.rig.pairing import median, paired, say, times_faster
from benchmarks.rig.processes import peak_rss_mb, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUILT: Final = Path(__file__).resolve().parent.parent / ".tools/clients"
PEERS: Final = {
    "python": ("history", "flight"),
    "go": ("history", "flight"),
    "rust": ("history", "flight"),
    "java": ("history", "flight"),
    "typescript": ("history",),
}
"""What each language can read with: all of them with our client, some with a Flight client of their own."""


class Reader:
    """A client's process that reads all rows when it is told to."""

    def __init__(self, process: subprocess.Popen[str], rows: int) -> None:
        self._process = process
        self._rows = rows
        if self._line() != "ready":
            raise RuntimeError(f"{process.args!r} did not say that it is ready; its error is above")

    def read(self) -> float:
        """Seconds of one read. Raises RuntimeError if it did not give all rows."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = json.loads(self._line() or '{"rows": 0}')
        if found["rows"] != self._rows:
            raise RuntimeError(f"{self._process.args!r} read {found['rows']} of {self._rows} rows")
        return float(found["seconds"])

    def peak_rss_mb(self) -> float:
        """The most resident memory it has had, in MB of 2**20 bytes."""
        return peak_rss_mb(self._process.pid)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def reading(language: str, peer: str, arguments: list[str], rows: int) -> Iterator[Reader]:
    """The program of a language, connected; it ends with the block."""
    command = [sys.executable, "-m", "benchmarks.rig.client_bench"]
    if language != "python":
        command = [str(BUILT / language / "bench")]
        if not Path(command[0]).exists():
            raise RuntimeError(f"no {command[0]}: run `make clients-bench`")
    say(f"starting {language}'s {peer}")
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, peer, *arguments], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Reader(process, rows)
        finally:
            process.kill()


def run(
    rows: int = 525_600,
    rounds: int = 9,
    warm_up: int = 100,
    sessions: int = 15,
    languages: tuple[str, ...] = tuple(PEERS),
) -> dict[str, Any]:
    """Measures all clients of these languages, in some sessions of fresh processes; one without a peer in the first."""
    seconds: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "bench.db"
        fill(store, {series_of(rows): rows})
        for number in range(1, sessions + 1):
            say(f"session {number} of {sessions}")
            chosen = [language for language in languages if number == 1 or len(PEERS[language]) > 1]
            found, peaks = _session(store, rows, rounds, warm_up, chosen)
            for name, taken in found.items():
                seconds[name] += taken
                memory[name] = max(memory[name], peaks[name])
    return _told(rows, seconds, memory)


def _session(
    store: Path, rows: int, rounds: int, warm_up: int, languages: Sequence[str]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each reader's reads, by round, and the most memory it had."""
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    with historyd(store) as (_, address), serving("benchmarks.rig.flight", str(rows)) as flight:
        window = [moment.isoformat().replace("+00:00", "Z") for moment in (start_of(rows), END)]
        arguments = {
            "history": [address, series_of(rows), *window],
            "flight": [flight.ready_line, json.dumps({"rows": rows})],
        }
        for language in languages:
            with _readers(language, arguments, rows) as readers:
                for reader in readers.values():
                    for _ in range(warm_up):
                        reader.read()
                contenders = {name: reader.read for name, reader in readers.items()}
                seconds |= paired(f"{language}, {rows} rows", rounds, contenders)
                memory |= {name: reader.peak_rss_mb() for name, reader in readers.items()}
    return seconds, memory


@contextmanager
def _readers(language: str, arguments: dict[str, list[str]], rows: int) -> Iterator[dict[str, Reader]]:
    """The readers of a language, by its name and the peer's."""
    with ExitStack() as stack:
        yield {
            f"{language} {peer}": stack.enter_context(reading(language, peer, arguments[peer], rows))
            for peer in PEERS[language]
        }


def _told(rows: int, seconds: dict[str, list[float]], memory: dict[str, float]) -> dict[str, Any]:
    told: dict[str, Any] = {"rows": rows}
    ratios = {}
    for name, taken in seconds.items():
        language, peer = name.split()
        prefix = "" if peer == "history" else "flight_"
        told[f"{prefix}rows_per_s_{language}"] = round(rows / median(taken))
        told[f"{prefix}peak_rss_mb_{language}"] = memory[name]
        if peer == "flight":
            ratios[language] = times_faster(seconds[f"{language} history"], taken)
    told |= {f"ratio_to_flight_{language}": ratio for language, ratio in ratios.items()}
    return {**told, "min_ratio_to_flight": min(ratios.values())}
