"""A few last rows by ReadLast: what the client does at each bar, so it is short.

One call, one answer. A call that breaks is made again from the start, by the same rules as a stream is resumed.
Promises: an answer that is not what the contract says raises ServerError instead of being handed on. No I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from google.protobuf.message import DecodeError

from markethistory.convert import summary_of
from markethistory.errors import ServerError
from markethistory.requests import summary_metadata, warn_if_incomplete
from markethistory.retry import Attempts
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from markethistory.errors import MarketHistoryError
    from markethistory.retry import RetryPolicy


class LastSession:
    """The state of one read of a few last rows; its owner makes the calls."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._attempts = Attempts(policy)

    def failed(self, error: MarketHistoryError) -> float:
        """Seconds to wait before the next call. Raises the error if there should be none."""
        return self._attempts.pause_after(error)


def table_of(series: str, data: bytes, *, stacklevel: int) -> pa.Table:
    """The table of an answer, with the summary as metadata; warns of what is missing.

    Raises ServerError if the answer cannot be read, or lacks its range, its summary or some of its rows.
    """
    try:
        answer = pb.ReadLastResponse.FromString(data)
        table = pa.ipc.open_stream(pa.py_buffer(answer.arrow_ipc)).read_all()
    except (DecodeError, pa.ArrowInvalid, OSError) as unreadable:
        raise ServerError("the server sent an answer that cannot be read") from unreadable
    _check(answer, table.num_rows)
    summary = summary_of(answer.summary, answer.range, answer.row_count)
    warn_if_incomplete(series, summary, stacklevel=stacklevel + 1)
    return table.replace_schema_metadata(summary_metadata(series, summary))


def _check(answer: pb.ReadLastResponse, row_count: int) -> None:
    if not (answer.HasField("range") and answer.HasField("summary")):
        raise ServerError("the server's answer lacks its range or its summary")
    if not row_count == answer.row_count == answer.summary.row_count:
        counted = f"{answer.row_count} and {answer.summary.row_count}"
        raise ServerError(f"the server sent {row_count} rows and counted {counted}")
