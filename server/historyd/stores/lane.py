"""Threads that own connections: the way from the event loop to a blocking driver and back.

Promises: work is done on a connection that no other thread uses meanwhile; the driver's errors come out as
StoreUnavailable; closing waits for what is under way and closes every connection.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

from historyd.errors import StoreUnavailable
from historyd.stores.sqlite import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType

T = TypeVar("T")


class Lane:
    """`width` threads, each with a connection of its own, made by `connect` when it is first needed.

    An async context manager: leaving it waits for what is under way and drops what is queued.
    """

    def __init__(self, name: str, width: int, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(width, thread_name_prefix=name)
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Begins the work as soon as a thread is free."""
        try:
            return self._threads.submit(self._do, work)
        except RuntimeError as cause:
            raise StoreUnavailable("the store is closed", cause="closed") from cause

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does the work; a caller that is cancelled does not wait for it."""
        return await asyncio.wrap_future(self.submit(work))

    async def run_whole(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does the work; for a caller that is cancelled, not at all if it has not begun, else to its end."""
        future = self.submit(work)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            if not future.cancel():
                await _settled(waiter)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            await asyncio.to_thread(self._threads.shutdown)
        finally:
            # At once, unless the wait was cancelled: then for what is under way, a few milliseconds.
            self._threads.shutdown()
            for con in self._connections:
                con.close()

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection())
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def _connection(self) -> sqlite3.Connection:
        con: sqlite3.Connection | None = getattr(self._own, "con", None)
        if con is None:
            con = self._own.con = self._connect()
            self._connections.append(con)
        return con


async def _settled(waiter: asyncio.Future[T]) -> None:
    """Waits until it is done, however often the caller is cancelled meanwhile, and takes note of its error."""
    while not waiter.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({waiter})
    if not waiter.cancelled():
        waiter.exception()
