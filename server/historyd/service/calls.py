"""The calls under way: how many there are, and a line in the access log for each that has ended.

Lines are written a moment later, many at once: a line costs a tenth of a small call when it is written alone, as
nothing of it is in the processor's caches then. They carry the time at which their call ended. What has not been
written when the process is killed is lost; `flush` writes it when the server closes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Final

access_log: Final = logging.getLogger("historyd.access")
_DELAY_S: Final = 0.1


@dataclass(slots=True)
class Call:
    """One call: what the access log says of it, and how long its caller waits. Handlers set `rows`."""

    method: str
    subject: str
    patience_s: float | None = None
    rows: int = 0
    status: str = "OK"
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    ended_at: float = 0.0

    def line(self) -> logging.LogRecord:
        """The record of a call that has ended."""
        told = {
            "method": self.method,
            "series": self.subject,
            "status": self.status,
            "ms": f"{(self.ended - self.began) * 1000:.3f}",
            "rows": self.rows,
        }
        record = access_log.makeRecord(access_log.name, logging.INFO, "", 0, "call", (), None, extra={"fields": told})
        record.created, record.msecs = self.ended_at, self.ended_at % 1 * 1000
        return record


class Calls:
    """All calls of one server."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended: list[Call] = []
        self._writing: asyncio.TimerHandle | None = None

    def begin(self, method: str, subject: str, patience_s: float | None = None) -> Call:
        """A call has come, whose caller waits for so many seconds; None: for as long as it takes."""
        self._count += 1
        self._idle.clear()
        return Call(method, subject, patience_s)

    def end(self, call: Call) -> None:
        """A call is over."""
        self._count -= 1
        if self._count == 0:
            self._idle.set()
        if access_log.isEnabledFor(logging.INFO):
            call.ended, call.ended_at = time.perf_counter(), time.time()
            self._ended.append(call)
            if self._writing is None:
                self._writing = asyncio.get_running_loop().call_later(_DELAY_S, self.flush)

    async def idle(self) -> None:
        """Returns once no call is under way."""
        await self._idle.wait()

    def flush(self) -> None:
        """Writes the lines that are not written yet."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        ended, self._ended = self._ended, []
        for call in ended:
            access_log.handle(call.line())
