"""Everything that can go wrong, in the words of the contract.

    HistoryError
    ├── InvalidField            a field of the request is wrong
    │   └── InvalidSeries       the series id cannot be read
    ├── NotFound
    │   ├── UnknownExchange
    │   ├── UnknownSymbol
    │   │   └── NoLongerListed  its series is stored, but the exchange has delisted it
    │   └── UnknownTimeframe
    ├── Refused                 asking again changes nothing until somebody acts
    │   ├── Incomplete          `require_complete`, and it is not
    │   ├── NoSource            rows are missing and nothing can fetch them
    │   ├── VenueRefused        403, 451, bad credentials
    │   └── OriginMismatch      another host's history is in the store
    ├── RateLimited             a quota is spent
    │   └── WaitTooLong         for longer than the caller's deadline
    ├── Away                    asking again may help
    │   ├── ExchangeUnavailable
    │   │   └── BadAnswer       the exchange answers, but not in its own shape
    │   ├── QuotaUnavailable    the quota is shared, and what it is shared through is away
    │   ├── StoreUnavailable
    │   └── ShuttingDown
    ├── CorruptPage             stored rows are damaged
    └── Unauthenticated         the call carries no token, or a wrong one

Promises: `str(error)` is fit for a stranger: no driver's text, no DSN, no path. The cause, if there is one,
is chained (`raise ... from cause`) and only ever logged. `metadata` names what was wrong and with what value.
`reason` is the name of a value of the contract's enum ErrorReason, without its prefix.
Never does: map itself to a transport's status (service/status.py does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class HistoryError(Exception):
    """Root of all errors that callers may see.

    Attributes:
        reason: name of the contract's ErrorReason, without its prefix.
        metadata: what was wrong, by the names that error_reason.proto gives.
        retry_after_s: seconds after which asking again may help; None if it may not.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, retry_after_s: float | None = None, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata
        self.retry_after_s = retry_after_s


class InvalidField(HistoryError):
    """A field of the request is wrong; `metadata` has `field` and `value`."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, value: object, must: str) -> None:
        super().__init__(f"{field}: {must}, got {value!r}", field=field, value=str(value))


class InvalidSeries(InvalidField):
    """The series id cannot be read."""

    reason = "INVALID_SERIES"

    def __init__(self, value: object, must: str) -> None:
        super().__init__("series", value, must)


class NotFound(HistoryError):
    """A thing that was named does not exist at the exchange."""


class UnknownExchange(NotFound):
    """No such exchange; the nearest names are in the message."""

    reason = "UNKNOWN_EXCHANGE"

    def __init__(self, exchange: str, nearest: Iterable[str] = ()) -> None:
        names = list(nearest)
        super().__init__(f"no exchange {exchange!r}{_did_you_mean(names)}", exchange=exchange, nearest=",".join(names))


class UnknownSymbol(NotFound):
    """The exchange has no such symbol; the nearest are in the message."""

    reason = "UNKNOWN_SYMBOL"

    def __init__(self, exchange: str, symbol: str, nearest: Iterable[str] = ()) -> None:
        names = list(nearest)
        super().__init__(
            f"{exchange} has no symbol {symbol!r}{_did_you_mean(names)}",
            exchange=exchange,
            symbol=symbol,
            nearest=",".join(names),
        )


class NoLongerListed(UnknownSymbol):
    """The symbol was there when its series was begun, and is not in the exchange's list any more."""

    def __init__(self, exchange: str, symbol: str) -> None:
        HistoryError.__init__(
            self,
            f"{exchange} no longer lists {symbol!r}: what is stored can be read, "
            "what is missing cannot be asked for any more",
            exchange=exchange,
            symbol=symbol,
            nearest="",
        )


class UnknownTimeframe(NotFound):
    """The exchange does not serve this timeframe."""

    reason = "UNKNOWN_TIMEFRAME"

    def __init__(self, exchange: str, timeframe: str, supported: Iterable[str]) -> None:
        names = list(supported)
        super().__init__(
            f"{exchange} does not serve {timeframe!r}; it serves {', '.join(names)}",
            exchange=exchange,
            timeframe=timeframe,
            supported=",".join(names),
        )


class Refused(HistoryError):
    """Asking again changes nothing until somebody acts."""


class Incomplete(Refused):
    """`require_complete` was asked and a span is not covered."""

    reason = "INCOMPLETE"


class NoSource(Refused):
    """Rows are missing and this server has no way to fetch them."""

    reason = "NO_SOURCE"

    def __init__(self, exchange: str) -> None:
        super().__init__(f"rows of {exchange} are missing and this server cannot fetch them", exchange=exchange)


class VenueRefused(Refused):
    """The exchange refuses this host or key; never retried."""

    reason = "VENUE_REFUSED"


class OriginMismatch(Refused):
    """The exchange's host is not the one whose history the store holds."""

    reason = "ORIGIN_MISMATCH"

    def __init__(self, exchange: str, stored: str, asked: str) -> None:
        super().__init__(
            f"the store holds {exchange}'s history from {stored}, not from {asked}: "
            "use another store, or forget the series of this exchange first",
            exchange=exchange,
            stored=stored,
            asked=asked,
        )


class RateLimited(HistoryError):
    """A quota is spent; `retry_after_s` says for how long."""

    reason = "RATE_LIMITED"


class WaitTooLong(RateLimited):
    """The call would be due after the caller's deadline; nothing was booked for it."""


class Away(HistoryError):
    """Something is away; asking again may help."""

    def __init__(self, message: str, *, retry_after_s: float | None = 1.0, **metadata: str) -> None:
        super().__init__(message, retry_after_s=retry_after_s, **metadata)


class ExchangeUnavailable(Away):
    """The exchange cannot be reached or answers with errors."""

    reason = "EXCHANGE_UNAVAILABLE"


class BadAnswer(ExchangeUnavailable):
    """The exchange answers, but not in its own shape; nothing of it was stored."""

    reason = "BAD_ANSWER"


class QuotaUnavailable(Away):
    """The quota shared with other servers cannot be asked; nothing is sent to the exchange without it."""

    reason = "QUOTA_UNAVAILABLE"


class StoreUnavailable(Away):
    """The store cannot be reached, is full, or has another writer."""

    reason = "STORE_UNAVAILABLE"


class ShuttingDown(Away):
    """The server is stopping; what was fetched is kept."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the server is stopping; what was fetched is kept, ask again")


class CorruptPage(HistoryError):
    """Stored rows are damaged; `metadata` has `series` and `page`."""

    reason = "CORRUPT_PAGE"

    def __init__(self, series: str, page: str) -> None:
        super().__init__(
            f"stored rows of {series} in {page} are damaged: `historyd forget` that range and ask again",
            series=series,
            page=page,
        )


class Unauthenticated(HistoryError):
    """The call carries no token that this server knows; `problem` says why, never with what value."""

    reason = "UNAUTHENTICATED"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"this server wants 'authorization: Bearer TOKEN' in a call's metadata: {problem}",
            header="authorization",
            problem=problem,
        )


def _did_you_mean(names: list[str]) -> str:
    return f"; did you mean {' or '.join(repr(name) for name in names)}?" if names else ""
