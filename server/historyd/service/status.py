"""Errors -> google.rpc.Status. The only place that knows which error is which status.

Promises: a public message carries what the error says of itself and nothing of its cause. What is not a HistoryError
becomes INTERNAL with an incident number, under which the log has the traceback.
Never does: log (the caller does), or raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from historyd.errors import (
    Away,
    CorruptPage,
    HistoryError,
    InvalidField,
    NotFound,
    RateLimited,
    Refused,
    Unauthenticated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

DOMAIN: Final = "markethistory"
"""The domain of every ErrorInfo."""
_MAX_MESSAGE: Final = 1_000
_MAX_VALUE: Final = 250
"""Most characters of one metadata value: details travel in HTTP/2 trailers, which hold about 8 KiB."""
_CODES: Final[Mapping[type[HistoryError], int]] = {
    InvalidField: code_pb2.INVALID_ARGUMENT,
    NotFound: code_pb2.NOT_FOUND,
    Refused: code_pb2.FAILED_PRECONDITION,
    RateLimited: code_pb2.RESOURCE_EXHAUSTED,
    Away: code_pb2.UNAVAILABLE,
    CorruptPage: code_pb2.DATA_LOSS,
    Unauthenticated: code_pb2.UNAUTHENTICATED,
}


def status_of(error: HistoryError) -> status_pb2.Status:
    """The status of an error: its code, its message, ErrorInfo, and RetryInfo or BadRequest where they apply."""
    details: list[Message] = [_info(error.reason, error.metadata)]
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(max(0.0, error.retry_after_s) * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    message = _cut(str(error), _MAX_MESSAGE)
    if isinstance(error, InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.metadata["field"], description=message, reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    return _status(_code(error), message, details)


def status_of_incident(incident: str) -> status_pb2.Status:
    """The status of a fault of the server itself: nothing but the number that finds it in the log."""
    message = f"a fault of the server; its log says more under incident {incident}"
    return _status(code_pb2.INTERNAL, message, [_info("INTERNAL", {"incident": incident})])


def _code(error: HistoryError) -> int:
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), code_pb2.INTERNAL)


def _info(reason: str, metadata: Mapping[str, str]) -> Message:
    cut = {name: _cut(value, _MAX_VALUE) for name, value in metadata.items()}
    info: Message = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=cut)
    return info


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _status(code: int, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
