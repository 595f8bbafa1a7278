"""One logical read over as many calls as it takes: what to ask next, what an answer means. No I/O.

Theory of operation. The first message fixes the range; each message names the key of its last row. If a call breaks,
the next one asks for the same range after that key, so that rows are neither doubled nor lost, and a moving end does
not move. Only the summary ends a read: a stream that merely stops is broken, whatever its status.

Promises: a row is handed on once; what does not fit (a key that does not ascend, a count that differs, another
schema) raises ServerError instead of being handed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markethistory.convert import summary_of
from markethistory.errors import IncompleteStream, ServerError
from markethistory.reader import BatchDecoder
from markethistory.retry import Attempts
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    import pyarrow as pa

    from markethistory.errors import MarketHistoryError
    from markethistory.retry import RetryPolicy
    from markethistory.v1.series_pb2 import TimeRange
    from markethistory.values import ReadSummary


class ReadSession:
    """The state of one read; its owner makes the calls.

    A round is `request()`, then `receive` for each message, then `finish()`; if one of these or the call itself fails,
    `failed` tells how long to wait before the next round.
    """

    def __init__(self, request: pb.ReadRangeRequest, policy: RetryPolicy) -> None:
        self.schema: pa.Schema | None = None
        self.summary: ReadSummary | None = None
        self._request = request
        self._attempts = Attempts(policy)
        self._range: TimeRange | None = None
        self._last_key: pb.RowKey | None = None
        self._row_count = 0
        self._begin_call()

    @property
    def done(self) -> bool:
        """Whether all rows and the summary are here."""
        return self.summary is not None

    def request(self) -> pb.ReadRangeRequest:
        """What to ask next: all of it at first, later what is left."""
        self._begin_call()
        if self._range is None:
            return self._request
        rest = pb.ReadRangeRequest()
        rest.CopyFrom(self._request)
        rest.range.CopyFrom(self._range)
        if self._last_key is not None:
            rest.last = 0  # the resolved range begins at the first of the last N
            rest.resume_after.CopyFrom(self._last_key)
        return rest

    def receive(self, message: bytes | memoryview) -> list[pa.RecordBatch]:
        """The rows of one message; keeps what else it says. Raises ServerError if it does not fit."""
        envelope, batches = self._decoder.decode(message)
        self._keep_range(envelope)
        self._keep_schema()
        if batches:
            self._keep_key(envelope, batches[0])
        self._call_rows += envelope.row_count
        self._row_count += envelope.row_count
        if envelope.HasField("summary"):
            self._keep_summary(envelope.summary)
        return batches

    def finish(self) -> None:
        """The call ended well. Raises IncompleteStream if the read did not."""
        if not self.done:
            raise IncompleteStream(
                f"the stream of {self._request.series} ended after {self._row_count} rows without its summary"
            )

    def failed(self, error: MarketHistoryError) -> float:
        """Seconds to wait before the next call. Raises the error if there should be none."""
        return self._attempts.pause_after(error)

    def _begin_call(self) -> None:
        self._decoder = BatchDecoder()
        self._call_rows = 0

    def _keep_range(self, envelope: pb.ReadRangeResponse) -> None:
        self._attempts.heard()
        if self._range is None:
            if not envelope.HasField("range"):
                raise ServerError("the server's first message does not state the range")
            self._range = envelope.range

    def _keep_schema(self) -> None:
        found = self._decoder.schema
        if self.schema is None:
            self.schema = found
        elif found is not None and not self.schema.equals(found):
            raise ServerError("the server changed the schema of a resumed stream")

    def _keep_key(self, envelope: pb.ReadRangeResponse, first_batch: pa.RecordBatch) -> None:
        key, before = envelope.last_key, self._last_key
        if before is not None:
            resumed = self._call_rows == 0
            if _order(key) <= _order(before) or (resumed and not self._follows(first_batch, before)):
                raise ServerError("the server sent rows that do not follow the rows before")
        self._last_key = key
        self._attempts.progressed()

    def _follows(self, batch: pa.RecordBatch, key: pb.RowKey) -> bool:
        """Whether a resumed stream begins after the key; trades may share its time."""
        first, last = batch.column("ts")[0].value, key.ts.ToMicroseconds()
        return bool(first > last or (first == last and not self._request.series.startswith("ohlcv:")))

    def _keep_summary(self, summary: pb.ReadSummary) -> None:
        if summary.row_count != self._call_rows:
            raise ServerError(f"the server sent {self._call_rows} rows and counted {summary.row_count}")
        assert self._range is not None
        self.summary = summary_of(summary, self._range, self._row_count)


def _order(key: pb.RowKey) -> tuple[int, int, int]:
    return key.ts.seconds, key.ts.nanos, key.seq
