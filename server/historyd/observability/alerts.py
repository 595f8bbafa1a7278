"""Alerts: hears what happens, decides what is told (troubles.py, alarms.py), and hands it to the receivers.

Promises: `happened` costs a few dictionary look-ups and never waits, whatever the receivers do; what was handed over is
delivered for up to `FLUSH_S` when the server stops, and no task is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, Self

from historyd.observability.alarms import Alarms, Message, Trouble
from historyd.observability.receivers import Mailbox, receivers_of
from historyd.observability.troubles import Troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from historyd.observability.hooks import Event
    from historyd.observability.options import AlertOptions
    from historyd.observability.receivers import Receiver

_LOG: Final = logging.getLogger(__name__)
TICK_S: Final = 1.0
"""How often it is looked whether time alone has something to tell."""
FLUSH_S: Final = 5.0


def _host_clock() -> int:
    return time.time_ns() // 1000


class Alerts:
    """The alerts of one server: hooks for engine and sources. An async context manager.

    `clock` gives microseconds since 1970; tests give their own. Raises NoReceiver if an address is none.
    """

    def __init__(
        self,
        options: AlertOptions,
        *,
        clock: Callable[[], int] = _host_clock,
        tick_s: float = TICK_S,
        receivers: Sequence[Receiver] | None = None,
    ) -> None:
        self._troubles = Troubles(options, Alarms(options))
        self._clock = clock
        self._tick_s = tick_s
        found = receivers_of(options.to, options.timeout_s) if receivers is None else receivers
        self._boxes = [Mailbox(receiver, title_of(options)) for receiver in found]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(work) for work in (self._watch(), *(box.run() for box in self._boxes))]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                await self.delivered()
        except TimeoutError:
            _LOG.warning("alerts were left undelivered when the server stopped")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def happened(self, event: Event) -> None:
        """Takes an event. Never blocks, never raises."""
        try:
            self._tell(self._troubles.heard(event, self._clock()))
        except Exception:  # noqa: BLE001 -- a defect here must not cost a page
            _LOG.exception("alerts could not take %s", type(event).__name__)

    def look(self) -> None:
        """Tells what only the passing of time brings: stalls and recoveries. Called every second by itself."""
        self._tell(self._troubles.passed(self._clock()))

    async def delivered(self) -> None:
        """Returns once every message was delivered or dropped."""
        for box in self._boxes:
            await box.emptied()

    @property
    def dropped(self) -> int:
        """Messages that some receiver did not get."""
        return sum(box.dropped for box in self._boxes)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            self.look()

    def _tell(self, messages: Sequence[Message]) -> None:
        for message in messages:
            level = logging.INFO if message.is_over else logging.WARNING
            _LOG.log(level, "alert", extra={"fields": {"trouble": message.trouble, "text": message.text}})
            for box in self._boxes:
                box.put(message)


def title_of(options: AlertOptions) -> str:
    """The title of every message."""
    return f"historyd on {options.name}"


async def send_test(options: AlertOptions) -> dict[str, str | None]:
    """Sends each receiver a message at once: by its name, what went wrong, None if nothing. Raises NoReceiver."""
    message = Message(Trouble.TEST, "test", "This is a test: alerts arrive here.")
    receivers = receivers_of(options.to, options.timeout_s)
    outcomes = await asyncio.gather(*(receiver.deliver(title_of(options), message) for receiver in receivers))
    names = [f"{place + 1}. {receiver.name}" for place, receiver in enumerate(receivers)]
    return dict(zip(names, outcomes, strict=True))
