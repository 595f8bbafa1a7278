"""One engine for each store file of this process, in a thread with an event loop of its own.

Theory of operation. qmtl calls its providers from event loops that come and go, while an engine, its store and its
connections belong to one loop. So the engine lives in a thread of its own and is opened at the first call. `close`
closes it; a process that ends without that leaves the store as a crash would, which is whole. The store has one
writer: all providers of one file share one engine. If an exchange is configured after the engine was opened, the
engine is reopened once no call is under way.

Never does: hold up the end of the process.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from historyd.app import open_engine
from historyd.config import Config, EmbeddedConfig, StoreConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from historyd.config import ExchangeConfig
    from historyd.engine.history import HistoryEngine

T = TypeVar("T")

_residents: dict[Path, ResidentEngine] = {}
_residents_lock = threading.Lock()


def resident_engine(store: Path) -> ResidentEngine:
    """The engine of a store file, one for each; nothing is opened yet."""
    with _residents_lock:
        if store not in _residents:
            _residents[store] = ResidentEngine(store)
        return _residents[store]


class ResidentEngine:
    """Runs work on the engine of one store file, from any thread and event loop."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._exchanges: Mapping[str, ExchangeConfig] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._gate = asyncio.Lock()
        self._opened: _Opened | None = None
        self._tasks: set[asyncio.Task[object]] = set()

    def configure(self, exchange: str, options: ExchangeConfig) -> None:
        """Says how an exchange is asked from the next call on; the last word counts, for all series of it."""
        with self._lock:
            if self._exchanges.get(exchange) != options:
                self._exchanges = {**self._exchanges, exchange: options}

    async def call(self, work: Callable[[HistoryEngine], Awaitable[T]]) -> T:
        """Runs `work` in the engine's own event loop; cancelling the caller cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._call(work), self._running_loop()))

    def close(self) -> None:
        """Cancels calls under way, closes the engine and ends its thread; the next call opens it again.

        Must not be called within `work`.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._shut_down(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._gate = asyncio.Lock()
                # A daemon: the process may end while it runs.
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name=f"historyd {self._store.name}", daemon=True
                )
                self._thread.start()
            return self._loop

    async def _call(self, work: Callable[[HistoryEngine], Awaitable[T]]) -> T:
        async with self._engine() as engine:
            return await work(engine)

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[HistoryEngine]:
        # Opening goes on if the caller is cancelled, so that nothing is left half open.
        entering = self._kept(asyncio.create_task(self._enter()))
        try:
            opened = await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(_leave_again)
            raise
        task = asyncio.current_task()
        assert task is not None
        self._kept(task)
        try:
            yield opened.engine
        finally:
            opened.leave()

    async def _enter(self) -> _Opened:
        """Enters the engine, which is opened, or reopened if exchanges have been configured since."""
        async with self._gate:
            exchanges = self._exchanges
            if self._opened is None or self._opened.exchanges is not exchanges:
                await self._close_opened()
                self._opened = await _Opened.open(self._store, exchanges)
            self._opened.enter()
            return self._opened

    async def _shut_down(self) -> None:
        """Cancels the calls under way and closes the engine."""
        ours = asyncio.current_task()
        others = [task for task in self._tasks if task is not ours]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        async with self._gate:
            await self._close_opened()

    def _kept(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Holds the task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _close_opened(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()


class _Opened:
    """An open engine and the task that keeps it open: what it holds must be closed where it was opened."""

    def __init__(self, exchanges: Mapping[str, ExchangeConfig]) -> None:
        self.exchanges = exchanges
        self.task: asyncio.Task[None] | None = None
        self._engine: HistoryEngine | None = None
        self._ready = asyncio.Event()
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._leave = asyncio.Event()

    @property
    def engine(self) -> HistoryEngine:
        """The engine, which is open."""
        assert self._engine is not None
        return self._engine

    @classmethod
    async def open(cls, store: Path, exchanges: Mapping[str, ExchangeConfig]) -> _Opened:
        """Opens an engine. Raises ConfigError or StoreUnavailable."""
        store.parent.mkdir(parents=True, exist_ok=True)
        config = Config(store=StoreConfig(embedded=EmbeddedConfig(path=store)), exchanges=dict(exchanges))
        opened = cls(exchanges)
        opened.task = asyncio.create_task(opened._keep(config))
        ready = asyncio.create_task(opened._ready.wait())
        await asyncio.wait({opened.task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await opened.task  # raises what kept it from opening
        return opened

    async def _keep(self, config: Config) -> None:
        async with open_engine(config) as self._engine:
            self._ready.set()
            await self._leave.wait()

    def enter(self) -> None:
        """A call begins."""
        self._users += 1
        self._idle.clear()

    def leave(self) -> None:
        """A call has ended."""
        self._users -= 1
        if self._users == 0:
            self._idle.set()

    async def close(self) -> None:
        """Waits for the calls under way, then closes the engine."""
        await self._idle.wait()
        self._leave.set()
        assert self.task is not None
        await self.task


def _leave_again(entering: asyncio.Task[_Opened]) -> None:
    """For a caller that was cancelled while it entered."""
    if not entering.cancelled() and entering.exception() is None:
        entering.result().leave()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
