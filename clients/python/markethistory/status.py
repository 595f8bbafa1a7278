"""The only place where a gRPC status becomes one of our errors, and where it is decided what follows from it.

Reads google.rpc.Status with ErrorInfo and RetryInfo from the call's trailing metadata.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from markethistory.errors import (
    AccessDenied,
    DataLoss,
    Incomplete,
    InvalidRequest,
    MarketHistoryError,
    NotFound,
    RateLimited,
    Refused,
    ServerError,
    TimedOut,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.any_pb2 import Any as AnyMessage

    from markethistory.retry import Deadline

_DETAILS: Final = "grpc-status-details-bin"
_BY_CODE: Final[dict[grpc.StatusCode, type[MarketHistoryError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,  # by the server or something in between: nobody here did it
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.DATA_LOSS: DataLoss,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
}
_BY_REASON: Final[dict[str, type[MarketHistoryError]]] = {"INCOMPLETE": Incomplete}


def error_of(failure: grpc.RpcError) -> MarketHistoryError:
    """Our error for a failed call; the caller chains the failure as its cause."""
    code = failure.code()
    info, retry = _details(failure)
    kind = _BY_REASON.get(info.reason) or _BY_CODE.get(code, ServerError)
    return kind(
        failure.details() or code.name.lower(),
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if retry is not None else None,
    )


class Session(Protocol):
    """One logical call that may take several; see ReadSession and EnsureSession."""

    def failed(self, error: MarketHistoryError) -> float:
        """Seconds to wait before the next call. Raises the error if there should be none."""


def pause_after(
    session: Session, failure: grpc.RpcError | MarketHistoryError, deadline: Deadline | None = None
) -> float:
    """Seconds to wait before the next attempt. Raises the failure as one of our errors if there should be none."""
    if isinstance(failure, MarketHistoryError):
        error, cause = failure, failure.__cause__
    else:
        error, cause = error_of(failure), failure
    try:
        pause = session.failed(error)
    except MarketHistoryError as hopeless:
        raise hopeless from cause
    if deadline is not None and not deadline.allows(pause):
        raise error from cause
    return pause


def _details(failure: grpc.RpcError) -> tuple[ErrorInfo, RetryInfo | None]:
    """The details that the server sent; an empty ErrorInfo and None if it sent none that can be read."""
    info, retry = ErrorInfo(), None
    trailers = cast("Iterable[tuple[str, str | bytes]]", failure.trailing_metadata() or ())
    for key, value in trailers:
        if key == _DETAILS and isinstance(value, bytes):
            for detail in _unpacked(value):
                if detail.Is(RetryInfo.DESCRIPTOR):
                    retry = RetryInfo()
                    detail.Unpack(retry)
                else:
                    detail.Unpack(info)
    return info, retry


def _unpacked(value: bytes) -> list[AnyMessage]:
    try:
        return list(Status.FromString(value).details)
    except DecodeError:
        return []
