"""One running job per key, shared by all who want its result.

Rules:
1. `join` starts the job, or joins the one that runs under the same key. Who joined must `leave`, once, whatever
   happens; after `flight.landed` is set, `flight.outcome()` gives the result or raises the job's error.
   A job is as urgent as the most urgent of those who want its result, and as patient as the most patient.
2. A waiter that is cancelled only leaves. When the last one leaves, a job that has nothing on the wire (it waits for
   quota, for a pause, for a place) is cancelled; one that has is let finish, so that what the exchange was asked for
   is kept. New callers of an abandoned job that still runs join it.
3. Jobs belong to the task group given; none outlives it. After `close` no job is started: ShuttingDown.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from historyd.errors import ShuttingDown
from historyd.leases.base import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from historyd.model.wait import Wait

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """One who wants a result: for a question that is answered now, or a long backfill; and until when it waits.

    `deadline` is in microseconds of the host's clock, None if there is none.
    """

    urgent: bool = True
    deadline: int | None = None


SOMEBODY: Final = Caller()


class Flight(Generic[T]):
    """A running job. It is the job's Observer and Claimant, so that all who wait can see what it is doing.

    Attributes:
        landed: set when the job has ended.
        call_count: calls made to the exchange so far.
        wait: what the job waits for at the moment, None if nothing.
        closing: no more jobs are begun; one of several calls is to end at the next one.
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.landed = asyncio.Event()
        self.call_count = 0
        self.wait: Wait | None = None
        self.callers: list[Caller] = []
        self.on_the_wire = False
        self.closing = False
        self.task: asyncio.Task[None] | None = None
        self._promoted = False
        self._may_call: Callable[[], bool] = lambda: True
        self._result: T | None = None
        self._error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its outcome is fixed, maybe without those who want it having been told."""
        return self.task is not None and self.task.done()

    @property
    def urgent(self) -> bool:
        """Whether one of those who want the result is urgent, here or at another server: one that joins makes it so."""
        return self._promoted or any(caller.urgent for caller in self.callers)

    @property
    def deadline(self) -> int | None:
        """Until when the most patient of those who want the result waits."""
        deadlines = [caller.deadline for caller in self.callers if caller.deadline is not None]
        return max(deadlines) if deadlines and len(deadlines) == len(self.callers) else None

    def promote(self) -> None:
        """Somebody at another server waits for it."""
        self._promoted = True

    def lease(self, is_held: Callable[[], bool]) -> None:
        """From now on calls are only sent while `is_held`."""
        self._may_call = is_held

    @property
    def unwanted(self) -> bool:
        """Whether the job should not go on once the call under way is done."""
        return self.closing or not self.callers

    def waiting(self, wait: Wait) -> None:
        """The job waits; nothing is on the wire."""
        self.wait = wait
        self.on_the_wire = False

    def calling(self) -> None:
        """The job sends a call. Raises LeaseLost if it is another server's to send."""
        if not self._may_call():
            raise LeaseLost("the lease of the page has run out")
        self.wait = None
        self.on_the_wire = True
        self.call_count += 1

    async def run(self, job: Callable[[Flight[T]], Awaitable[T]]) -> None:
        """Runs the job to its end and keeps what came of it; never raises but CancelledError."""
        try:
            self._result = await job(self)
        except Exception as error:  # noqa: BLE001 - handed to every waiter by outcome()
            self._error = error

    def land(self) -> None:
        """Wakes all who wait; also after a job that was cancelled before it began."""
        self.wait = None
        self.landed.set()

    def outcome(self) -> T:
        """The job's result (never None), or raises its error. Only after `landed`."""
        if self._error is not None:
            raise self._error
        if self._result is None:  # cancelled while somebody still waited, which only close() does
            raise ShuttingDown
        return self._result


class SingleFlight(Generic[T]):
    """The jobs that run, by key."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._flights: dict[Hashable, Flight[T]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: Hashable, job: Callable[[Flight[T]], Awaitable[T]], caller: Caller = SOMEBODY) -> Flight[T]:
        """Joins the job that runs under `key`, or starts it. Raises ShuttingDown after `close`."""
        flight = self._flights.get(key)
        if flight is None or flight.has_ended:
            flight = self._start(key, job)
        flight.callers.append(caller)
        return flight

    def leave(self, flight: Flight[T], caller: Caller = SOMEBODY) -> None:
        """One caller less, as it joined; the last one cancels a job that has nothing on the wire."""
        flight.callers.remove(caller)
        if not flight.callers and not flight.on_the_wire:
            self._cancel(flight)

    def close(self) -> None:
        """No new jobs from now on; those that only wait are cancelled, those on the wire finish."""
        self._closed = True
        for flight in list(self._flights.values()):
            flight.closing = True
            if not flight.on_the_wire:
                self._cancel(flight)

    def abandon(self) -> None:
        """No new jobs, and those that run are cancelled, whatever is on the wire."""
        self._closed = True
        for flight in list(self._flights.values()):
            self._cancel(flight)

    def _start(self, key: Hashable, job: Callable[[Flight[T]], Awaitable[T]]) -> Flight[T]:
        if self._closed:
            raise ShuttingDown
        flight: Flight[T] = Flight(key)
        self._flights[key] = flight
        flight.task = self._tasks.create_task(flight.run(job))
        flight.task.add_done_callback(lambda _: self._land(flight))
        return flight

    def _cancel(self, flight: Flight[T]) -> None:
        if flight.task is not None and not flight.task.done():
            flight.task.cancel()
        self._remove(flight)

    def _land(self, flight: Flight[T]) -> None:
        self._remove(flight)
        flight.land()

    def _remove(self, flight: Flight[T]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
