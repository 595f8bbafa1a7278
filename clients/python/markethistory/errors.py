"""Everything that can go wrong, for programs.

    MarketHistoryError
    ├── InvalidRequest          a field of the request is wrong
    ├── NotFound                no such exchange, symbol or timeframe; `nearest` lists the closest names
    ├── Refused                 asking again changes nothing until somebody acts
    │   └── Incomplete          `require_complete` was asked, and it is not
    ├── RateLimited             a quota is spent; `retry_after_s` says for how long
    ├── Unavailable             the server, its store or the exchange is away
    │   └── IncompleteStream    a stream ended before its summary, and resuming it did not help
    ├── TimedOut                `timeout` has passed
    ├── DataLoss                stored rows are damaged
    ├── AccessDenied            no or wrong credentials
    └── ServerError             a defect of the server, or an answer that cannot be read

What is wrong with an argument before anything is sent is a ValueError or TypeError, as everywhere in Python.
Never does: map itself from the wire (status.py does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc


class MarketHistoryError(Exception):
    """Root of all errors of a call.

    Attributes:
        code: the gRPC status; None if the call did not end with one.
        reason: name of the contract's ErrorReason without its prefix, such as UNKNOWN_SYMBOL; "" if the server did
            not answer itself.
        metadata: what was wrong and with what value, by the names that the contract's error_reason.proto gives.
        retry_after_s: seconds after which asking again may help; None if it may not, or nobody knows.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class InvalidRequest(MarketHistoryError):
    """A field of the request is wrong; `metadata` has `field` and `value`."""


class NotFound(MarketHistoryError):
    """The exchange, symbol or timeframe does not exist."""

    @property
    def nearest(self) -> list[str]:
        """The closest names that do exist; may be empty."""
        return [name for name in self.metadata.get("nearest", "").split(",") if name]


class Refused(MarketHistoryError):
    """Asking again changes nothing until somebody acts; `reason` says what about."""


class Incomplete(Refused):
    """`require_complete` was asked and a span is not covered; `metadata` has `first_gap`."""


class RateLimited(MarketHistoryError):
    """A quota is spent."""


class Unavailable(MarketHistoryError):
    """The server, its store or the exchange is away; asking again may help."""


class IncompleteStream(Unavailable):
    """A stream ended before its summary, or with rows missing. What it brought is not returned."""


class TimedOut(MarketHistoryError):
    """The call's `timeout` has passed. What the server fetched is kept."""


class DataLoss(MarketHistoryError):
    """Stored rows are damaged; `metadata` has `series` and `page`."""


class AccessDenied(MarketHistoryError):
    """No or wrong credentials."""


class ServerError(MarketHistoryError):
    """A defect of the server, or an answer that cannot be read; `metadata` may have `incident`."""


class IncompleteHistoryWarning(UserWarning):
    """A read returned all that could be had, and that is not all of the range; the message names the spans."""
