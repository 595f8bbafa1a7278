"""Starts greedy workers (quota_worker.py) in processes of their own, together, and ends them.

Promises: every process is ended and was waited for when the block is left.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.rig.quota_worker import Job

_PATIENCE_S: Final = 20


class QuotaWorker:
    """A greedy process."""

    def __init__(self, job: Job, prefix: Sequence[str] = ()) -> None:
        self.name = job.name
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "benchmarks.rig.quota_worker", job.text()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"worker {self.name} ended before it was ready")

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def finish(self) -> dict[str, Any]:
        """Ends it; gives its tally."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"worker {self.name} ended without its tally")
        found: dict[str, Any] = json.loads(line)
        return found

    def kill(self) -> None:
        """As a crash does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_PATIENCE_S)

    def end(self) -> None:
        """Ends it, whatever state it is in."""
        if self._process.poll() is None:
            self._process.kill()
        with self._process:
            self._process.wait(_PATIENCE_S)


@contextmanager
def quota_workers(jobs: Sequence[Job], prefix: Sequence[str] = ()) -> Iterator[list[QuotaWorker]]:
    """Workers that begin together when the block is entered; `prefix` goes before their commands (a scheduler)."""
    with ExitStack() as stack:
        workers = []
        for job in jobs:
            worker = QuotaWorker(job, prefix)
            stack.callback(worker.end)
            workers.append(worker)
        for worker in workers:
            worker.await_ready()
        for worker in workers:
            worker.begin()
        yield workers
