"""A read as it comes: record batches in key order, for synchronous programs and for asyncio.

Promises: a broken stream is resumed by key, without doubling or losing a row; what is iterated to its end was complete
as its summary says, else iterating raises. Never does: hold rows that were handed out.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import grpc
import pyarrow as pa

from markethistory import requests
from markethistory.errors import MarketHistoryError, Unavailable
from markethistory.reading import ReadSession
from markethistory.reads import stop
from markethistory.retry import Deadline
from markethistory.status import pause_after

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence
    from types import TracebackType

    from markethistory.reads import Messages
    from markethistory.retry import RetryPolicy
    from markethistory.v1 import history_service_pb2 as pb
    from markethistory.values import ReadSummary

    ReadRange: TypeAlias = Callable[[pb.ReadRangeRequest, float | None], Messages]
    AsyncReadRange: TypeAlias = Callable[[pb.ReadRangeRequest], Any]
    """Gives a grpc.aio.UnaryStreamCall of messages as they are on the wire."""


class _Stream:
    """What both kinds of stream know of their read."""

    def __init__(self, request: pb.ReadRangeRequest, policy: RetryPolicy, *, warn: bool) -> None:
        self._series = request.series
        self._session = ReadSession(request, policy)
        self._warn = warn

    @property
    def series(self) -> str:
        """The series that is read."""
        return self._series

    @property
    def schema(self) -> pa.Schema:
        """The rows' schema. Raises RuntimeError before the first batch was taken."""
        if self._session.schema is None:
            raise RuntimeError("the schema comes with the first batch")
        return self._session.schema

    @property
    def summary(self) -> ReadSummary:
        """How the read ended. Raises RuntimeError before the stream is exhausted."""
        if self._session.summary is None:
            raise RuntimeError("the summary comes at the end of the stream")
        return self._session.summary

    def _table_of(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        table = pa.Table.from_batches(batches, self.schema)
        return table.replace_schema_metadata(requests.summary_metadata(self._series, self.summary))

    def _warn_once(self, *, stacklevel: int) -> None:
        if self._warn and self._session.summary is not None:
            self._warn = False
            requests.warn_if_incomplete(self._series, self._session.summary, stacklevel=stacklevel + 1)


class BatchStream(_Stream):
    """Record batches of a read, in key order, as they come; an iterator and a context manager.

    Leaving it early cancels the read. When it is exhausted, `summary` tells how the read ended.
    """

    def __init__(
        self,
        read_range: ReadRange,
        request: pb.ReadRangeRequest,
        policy: RetryPolicy,
        timeout: float | None,
        *,
        warn: bool = True,
    ) -> None:
        super().__init__(request, policy, warn=warn)
        self._read_range = read_range
        self._call: Messages | None = None
        self._cancelled = threading.Event()
        self._batches = self._run(Deadline(timeout))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            return next(self._batches)
        except StopIteration:
            self._warn_once(stacklevel=2)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancels the read if it is under way."""
        self._batches.close()

    def cancel(self) -> None:
        """Cancels the read from another thread than the one that iterates, where it raises then."""
        self._cancelled.set()
        if self._call is not None:
            stop(self._call)

    def table(self) -> pa.Table:
        """All rows that are left, as a table whose metadata has the summary; see Client.read."""
        return self._table_of(list(self))

    def _run(self, deadline: Deadline) -> Generator[pa.RecordBatch, None, None]:
        session = self._session
        while not session.done:
            call = self._call = self._read_range(session.request(), deadline.left())
            if self._cancelled.is_set():  # before there was a call to stop
                stop(call)
            try:
                for message in call:
                    yield from session.receive(message)
                session.finish()
            except (grpc.RpcError, MarketHistoryError) as failure:
                if self._cancelled.is_set():
                    raise Unavailable("the read was cancelled") from failure
                if not session.done:
                    self._cancelled.wait(pause_after(session, failure, deadline))
            finally:
                call.cancel()


class AsyncBatchStream(_Stream):
    """Record batches of a read, in key order, as they come; an iterator and a context manager.

    Leaving it early cancels the read. When it is exhausted, `summary` tells how the read ended.
    """

    def __init__(
        self,
        read_range: AsyncReadRange,
        request: pb.ReadRangeRequest,
        policy: RetryPolicy,
        *,
        warn: bool = True,
    ) -> None:
        super().__init__(request, policy, warn=warn)
        self._read_range = read_range
        self._batches = self._run()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        try:
            return await anext(self._batches)
        except StopAsyncIteration:
            self._warn_once(stacklevel=2)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancels the read if it is under way."""
        await self._batches.aclose()

    async def table(self) -> pa.Table:
        """All rows that are left, as a table whose metadata has the summary; see AsyncClient.read."""
        return self._table_of([batch async for batch in self])

    async def _run(self) -> AsyncGenerator[pa.RecordBatch, None]:
        session = self._session
        while not session.done:
            call = self._read_range(session.request())
            try:
                async for message in call:
                    for item in session.receive(message):
                        yield item
                session.finish()
            except (grpc.RpcError, MarketHistoryError) as failure:
                if not session.done:
                    await asyncio.sleep(pause_after(session, failure))
            finally:
                call.cancel()
