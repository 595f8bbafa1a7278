"""How the sync client asks for rows: over connections of its own where it can, else through a channel of gRPC.

Both raise grpc.RpcError, so that what is above resumes and reports alike. Never does: read a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import grpc

from markethistory.direct import CallFailed, DirectCall, DirectMethod
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markethistory.channels import Metadata
    from markethistory.direct import DirectChannel

READ_RANGE: Final = "/markethistory.v1.HistoryService/ReadRange"
READ_LAST: Final = "/markethistory.v1.HistoryService/ReadLast"


class Messages(Protocol):
    """The messages of a call that streams, as they are on the wire; iterating raises grpc.RpcError."""

    def __iter__(self) -> Iterator[bytes | memoryview]: ...

    def cancel(self) -> object:
        """Ends the call if it is not over; for the thread that iterates."""


def stop(call: Messages) -> None:
    """Ends a call from another thread than the one that iterates, which gets an error."""
    if isinstance(call, DirectCall):
        call.stop()
    else:
        call.cancel()


class Reads:
    """ReadRange and ReadLast of one server; owns the direct channel if it is given one, not the channel of gRPC.

    `metadata` goes with each call.
    """

    def __init__(self, channel: grpc.Channel, direct: DirectChannel | None, metadata: Metadata | None) -> None:
        self._range: grpc.UnaryStreamMultiCallable[pb.ReadRangeRequest, bytes] = channel.unary_stream(
            READ_RANGE, request_serializer=pb.ReadRangeRequest.SerializeToString, response_deserializer=None
        )
        self._last: grpc.UnaryUnaryMultiCallable[pb.ReadLastRequest, bytes] = channel.unary_unary(
            READ_LAST, request_serializer=pb.ReadLastRequest.SerializeToString, response_deserializer=None
        )
        self._metadata = metadata
        self._direct = direct
        self._direct_range = None if direct is None else direct.method(READ_RANGE, metadata)
        self._direct_last = None if direct is None else direct.method(READ_LAST, metadata)

    def close(self) -> None:
        """Calls under way over connections of our own fail."""
        if self._direct is not None:
            self._direct.close()

    def range(self, request: pb.ReadRangeRequest, timeout: float | None) -> Messages:
        """Begins a ReadRange."""
        if self._direct_range is not None and DirectMethod.carries(request):
            return self._direct_range(request, timeout=timeout)
        return self._range(request, timeout=timeout, metadata=self._metadata)

    def last(self, request: pb.ReadLastRequest, timeout: float | None) -> bytes:
        """The answer of a ReadLast. Raises grpc.RpcError."""
        if self._direct_last is None or not DirectMethod.carries(request):
            return self._last(request, timeout=timeout, metadata=self._metadata)
        answers = list(self._direct_last(request, timeout=timeout))
        if len(answers) != 1:
            raise CallFailed(grpc.StatusCode.INTERNAL, f"the server sent {len(answers)} answers instead of one")
        return bytes(answers[0])
