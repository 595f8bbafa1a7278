"""A value that is made once, by a task of its own, for all who want it.

Promises: cancelling one who waits harms no other and does not stop the work; a failure is told to those who wait
and then forgotten, so that the next caller tries again. The task belongs to the task group given.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from historyd.errors import ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Shared(Generic[T]):
    """A value made by `make` when it is first asked for."""

    def __init__(self, tasks: asyncio.TaskGroup, make: Callable[[], Awaitable[T]]) -> None:
        self._tasks = tasks
        self._make = make
        self._value: asyncio.Future[T] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> T | None:
        """The value if it has been made, else None."""
        value = self._value
        return value.result() if value is not None and _succeeded(value) else None

    async def get(self) -> T:
        """The value; makes it if nobody has or does. Raises what `make` raised."""
        value = self._value
        if value is None or (value.done() and not _succeeded(value)):
            value = self._value = asyncio.get_running_loop().create_future()
            value.add_done_callback(lambda future: future.cancelled() or future.exception())
            self._task = self._tasks.create_task(self._run(value))
        return await asyncio.shield(value)

    def forget(self) -> None:
        """The next caller makes it anew. Does nothing while it is being made."""
        if self._value is not None and self._value.done():
            self._value = None

    def cancel(self) -> None:
        """Stops making it; those who wait get ShuttingDown."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, value: asyncio.Future[T]) -> None:
        try:
            value.set_result(await self._make())
        except asyncio.CancelledError:
            value.set_exception(ShuttingDown())
            raise
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits
            value.set_exception(error)


def _succeeded(value: asyncio.Future[T]) -> bool:
    return value.done() and not value.cancelled() and value.exception() is None
