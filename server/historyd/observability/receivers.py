"""Receivers of messages: apprise's services (Slack, mail, webhooks and a hundred more), each with a queue of its own.

Promises: handing a message over never waits; a receiver that fails or is slow delays no other, and holds one thread and
`QUEUED` messages at the most, what does not fit is dropped, counted and logged; no message or log line has an address,
which holds secrets: `name` is apprise's masked form. apprise is an extra, imported when the first receiver is made.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from historyd.observability.alarms import Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from historyd.observability.alarms import Message

_LOG: Final = logging.getLogger(__name__)
_APPRISE_LOG: Final = logging.getLogger("apprise")
QUEUED: Final = 100
"""Messages that wait for one receiver, at most."""
PAUSES_S: Final = (2.0, 10.0)
"""Between the attempts to deliver one message."""
_NO_SUCH: Final = (
    "is no address that apprise knows: it is like slack://..., mailto://..., or, for a webhook of your own, "
    "json://HOST/PATH or jsons://HOST/PATH (https://github.com/caronc/apprise/wiki)"
)


class NoReceiver(ValueError):
    """An address of the configuration is none; the message names its place, never the address."""


class Receiver:
    """One service. `deliver` is called from one task."""

    def __init__(self, service: Any, timeout_s: float) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self._under_way: asyncio.Future[bool] | None = None

    @property
    def name(self) -> str:
        """The address without its secrets, nor its parameters."""
        return str(self._service.url(privacy=True)).partition("?")[0]

    async def deliver(self, title: str, message: Message) -> str | None:
        """Sends a message; what went wrong, None if nothing. Never raises but CancelledError."""
        if self._under_way is not None and not await self._ended():
            return "still busy with the message before"
        kind = "success" if message.is_over else "info" if message.trouble is Trouble.TEST else "warning"
        self._under_way = _in_thread(
            lambda: bool(self._service.notify(body=message.text, title=title, notify_type=kind))
        )
        if not await self._ended():
            return f"no answer within {self._timeout_s:g} s"
        return None if self._under_way.result() else "it did not take the message"

    async def _ended(self) -> bool:
        assert self._under_way is not None
        await asyncio.wait([self._under_way], timeout=self._timeout_s)
        return self._under_way.done()


def receivers_of(addresses: Sequence[str], timeout_s: float) -> list[Receiver]:
    """A receiver for each address. Raises NoReceiver, also if apprise is not installed."""
    if not addresses:
        return []
    apprise = load_apprise()
    found: list[Receiver] = []
    for place, address in enumerate(addresses):
        asset = apprise.AppriseAsset(app_id="historyd", app_desc="historyd")
        with _unlogged():
            service = apprise.Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
        if service is None:
            raise NoReceiver(f"alerts.to.{place}: {_NO_SUCH}")
        found.append(Receiver(service, timeout_s))
    return found


def load_apprise() -> Any:
    """Apprise with all of its services. Raises NoReceiver if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what its services import
        try:
            import apprise  # noqa: PLC0415 -- an extra, and a second to load
        except ImportError:
            raise NoReceiver("alerts.to: alerts need more than is installed: pip install 'historyd[alerts]'") from None
        apprise.Apprise.instantiate("json://localhost")  # has the services loaded
    _APPRISE_LOG.setLevel(logging.WARNING)  # what is below has addresses in it
    return apprise


@contextmanager
def _unlogged() -> Iterator[None]:
    """While it lasts apprise logs nothing: of an address that is wrong it would log all."""
    level = _APPRISE_LOG.level
    _APPRISE_LOG.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        _APPRISE_LOG.setLevel(level)


class Mailbox:
    """What one receiver is still to get; `run` delivers it."""

    def __init__(
        self, receiver: Receiver, title: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._receiver = receiver
        self._title = title
        self._sleep = sleep
        self._queue: asyncio.Queue[Message] = asyncio.Queue(QUEUED)
        self.dropped = 0

    def put(self, message: Message) -> None:
        """Takes a message, or drops it if too many wait already."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._drop(message, "too many messages wait for it")

    async def run(self) -> None:
        """Delivers messages in order, for ever."""
        while True:
            message = await self._queue.get()
            try:
                await self._deliver(message)
            finally:
                self._queue.task_done()

    async def emptied(self) -> None:
        """Returns once nothing waits and nothing is being delivered."""
        await self._queue.join()

    async def _deliver(self, message: Message) -> None:
        for pause_s in (*PAUSES_S, None):
            wrong = await self._receiver.deliver(self._title, message)
            if wrong is None:
                return
            if pause_s is None:
                self._drop(message, wrong)
            else:
                await self._sleep(pause_s)

    def _drop(self, message: Message, why: str) -> None:
        self.dropped += 1
        told = {"receiver": self._receiver.name, "why": why, "alert": message.text, "dropped": self.dropped}
        _LOG.warning("an alert was not delivered", extra={"fields": told})


def _in_thread(work: Callable[[], bool]) -> asyncio.Future[bool]:
    """Runs the work in a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def settle(outcome: bool) -> None:  # noqa: FBT001 -- passed on by call_soon_threadsafe
        if not future.done():
            future.set_result(outcome)

    def run() -> None:
        try:
            outcome = work()
        except Exception:  # noqa: BLE001 -- a service's own fault: whatever it is, the message was not taken
            _LOG.debug("a receiver failed", exc_info=True)
            outcome = False
        with suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="alert", daemon=True).start()
    return future
