"""Processes: servers that say when they are ready, and workers that do what they are told, a JSON line at a time.

Promises: a process started here is ended when its block is left, and was waited for.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PATIENCE_S = 20


@dataclass(frozen=True)
class Server:
    """A running server: the line that it printed when it was ready, its process, its log if that is kept."""

    ready_line: str
    process: psutil.Process
    log: IO[str] | None = None

    def log_line(self) -> str:
        """The next line of its log; waits for it. Empty if the log has ended."""
        assert self.log is not None
        return self.log.readline()

    def cpu_s(self) -> float:
        """CPU seconds it has used, in user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory now, in MB of 2**20 bytes."""
        return float(self.process.memory_info().rss) / 2**20

    def peak_rss_mb(self) -> float:
        """The most resident memory it has had, in MB of 2**20 bytes."""
        return peak_rss_mb(self.process.pid)


def peak_rss_mb(pid: int) -> float:
    """The most resident memory of a process so far (VmHWM), in MB of 2**20 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kilobytes) / 1024, 1)


@contextmanager
def serving(*module_and_arguments: str, env: Mapping[str, str] | None = None, log: bool = False) -> Iterator[Server]:
    """Runs `python -m MODULE ...` and waits for its first line. What it logs is dropped, unless `log` is set."""
    stderr = subprocess.PIPE if log else subprocess.DEVNULL
    with _python(module_and_arguments, env, stderr) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{module_and_arguments[0]} ended with {process.wait()} before it was ready")
        yield Server(line, psutil.Process(process.pid), process.stderr)


class Worker:
    """A client in a process of its own. `ask` runs one of its operations and waits for what it gives."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout

    def ask(self, operation: str, **arguments: object) -> Any:
        """What the operation returned. Raises RuntimeError if it ended the process."""
        self.begin(operation, **arguments)
        return self.answer()

    def begin(self, operation: str, **arguments: object) -> None:
        """Starts an operation whose answer is fetched later."""
        self._commands.write(json.dumps({"operation": operation, "arguments": arguments}) + "\n")
        self._commands.flush()

    def dismiss(self) -> None:
        """Ends its input, so that it closes what it has and goes."""
        self._commands.close()

    def has_answered(self) -> bool:
        """Whether the operation that was begun is over."""
        return bool(select.select([self._answers], [], [], 0)[0])

    def answer(self) -> Any:
        """Waits for the operation that was begun."""
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the worker ended; its error is above")
        return json.loads(line)


@contextmanager
def working(peer: str, target: str, *, warm: bool = False) -> Iterator[Worker]:
    """A fresh worker for a peer (see worker.py), connected to `target`; `warm`: malloc keeps its memory."""
    arguments = ("benchmarks.rig.worker", peer, target, *(["--warm"] if warm else []))
    with _python(arguments, None, None) as process:
        worker = Worker(process)
        worker.answer()
        try:
            yield worker
        finally:
            worker.dismiss()
            process.wait(_PATIENCE_S)


@contextmanager
def _python(
    module_and_arguments: tuple[str, ...], env: Mapping[str, str] | None, stderr: int | None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *module_and_arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, **(env or {})},
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            # One that will not end is killed, so that its ports and memory are free for the next round.
            killer = threading.Timer(_PATIENCE_S, process.kill)
            killer.start()
            process.wait()
            killer.cancel()
