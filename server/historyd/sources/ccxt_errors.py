"""Turns what went wrong in a call through ccxt into errors of the contract.

The HTTP status decides first, ccxt's class second: ccxt raises DDoSProtection for Binance's 429, ExchangeError for
Upbit's, RateLimitExceeded for OKX's 50011 behind status 200, and no exception of it carries a status.

| status                | ccxt's class (any base counts)                     | error               |
|-----------------------|----------------------------------------------------|---------------------|
| 403, 451              | any, and the body says that the country is blocked | VenueRefused        |
| any                   | RateLimitExceeded                                  | RateLimited         |
| the venue's quota's   | any                                                | RateLimited         |
| any                   | any, and the body says so in the venue's words     | UnknownSymbol       |
| 401, 403, 451         | any                                                | VenueRefused        |
| 5xx, 408, 425         | any                                                | ExchangeUnavailable |
| other 4xx, 200        | BadSymbol                                          | UnknownSymbol       |
| other 4xx             | any: it will not take this question at any time    | VenueRefused        |
| 200 or none           | DDoSProtection                                     | RateLimited         |
| 200 or none           | AuthenticationError, BadRequest, NotSupported ...  | VenueRefused        |
| 200 or none           | BadResponse                                        | BadAnswer           |
| 200 or none           | any other of ccxt's                                | ExchangeUnavailable |
| any                   | not ccxt's: its parser stumbled over the answer    | BadAnswer           |

Promises: messages are ours, ccxt's text (URLs, bodies, keys) is in none of them; the caller chains the cause.
Never does: any call, or import ccxt (classes are told by name, so that a server that never asks never pays for it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from historyd.errors import (
    BadAnswer,
    ExchangeUnavailable,
    HistoryError,
    RateLimited,
    ShuttingDown,
    UnknownSymbol,
    VenueRefused,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from historyd.sources.venues import VenueTraits

REFUSALS: Final = {
    401: "it does not accept the credentials: check apiKey and secret",
    403: "its firewall does not let this host or key in: check the proxy, the key's permissions or wait",
    451: "it does not serve this place for legal reasons: use a host it serves, or set base_url or a proxy",
}
_BLOCKED: Final = re.compile(
    r"block access from your country|restricted location|not available in your (country|region)", re.IGNORECASE
)
"""What a firewall says to a place that is not served, with a status that may mean a spent quota otherwise (Bybit)."""
_BANNED_UNTIL: Final = re.compile(r"banned until (\d{13})")
_REFUSED: Final = {
    "AuthenticationError": "it does not accept the credentials: check apiKey and secret",
    "RestrictedLocation": "it does not serve this place: use a host it serves, or set base_url or a proxy",
    "NotSupported": "ccxt has no way to ask it for this",
    "BadRequest": "it does not take this question",
    "ArgumentsRequired": "ccxt has no way to ask it for this without more arguments",
    "InvalidProxySettings": "the proxy settings contradict each other",
}


@dataclass(slots=True)
class Reply:
    """What one HTTP request got: status (None: no reply), headers by lower-case name, body."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def date_s(self) -> float | None:
        """The exchange's clock when it replied, seconds since 1970 in whole seconds; None if it did not say."""
        return _http_date(self.headers.get("date", ""))


def judge(error: Exception, reply: Reply, exchange: str, traits: VenueTraits, symbol: str | None) -> HistoryError:
    """The error of the contract for what a call raised.

    Args:
        error: what ccxt raised.
        reply: what the request got.
        exchange: the exchange asked.
        traits: its entry in the venue table.
        symbol: the symbol asked for, None if the question was about none.
    """
    if isinstance(error, HistoryError):
        return error
    names = {base.__name__ for base in type(error).__mro__}
    if "ExchangeClosedByUser" in names:
        return ShuttingDown()
    if symbol is not None and traits.unknown_symbol and traits.unknown_symbol in reply.body:
        return UnknownSymbol(exchange, symbol)
    blocked = reply.status in {403, 451} and _BLOCKED.search(reply.body) is not None
    if not blocked and ("RateLimitExceeded" in names or reply.status in traits.quota_statuses):
        return _rate_limited(reply, exchange)
    if reply.status is not None and reply.status >= 400:
        return _by_status(reply, names, exchange, symbol)
    return _by_class(names, exchange, symbol)


def _by_status(reply: Reply, names: set[str], exchange: str, symbol: str | None) -> HistoryError:
    status, code, after_s = reply.status or 0, str(reply.status), _retry_after_s(reply)
    if status in REFUSALS:
        hint = REFUSALS[451] if _BLOCKED.search(reply.body) else REFUSALS[status]
        return VenueRefused(f"{exchange} refuses us (HTTP {status}): {hint}", exchange=exchange, http_status=code)
    if status >= 500 or status in {408, 425}:
        message = f"{exchange} answers with an error (HTTP {status})"
        return ExchangeUnavailable(message, retry_after_s=after_s or 1.0, exchange=exchange, http_status=code)
    if "BadSymbol" in names and symbol is not None:
        return UnknownSymbol(exchange, symbol)
    message = f"{exchange} does not take this question (HTTP {status}): if base_url is set, check it"
    return VenueRefused(message, exchange=exchange, http_status=code)


def _by_class(names: set[str], exchange: str, symbol: str | None) -> HistoryError:
    if "BadSymbol" in names and symbol is not None:
        return UnknownSymbol(exchange, symbol)
    if "DDoSProtection" in names:
        return RateLimited(f"{exchange}'s quota is spent", exchange=exchange)
    for name, hint in _REFUSED.items():
        if name in names:
            return VenueRefused(f"{exchange} refuses: {hint}", exchange=exchange)
    if "BadResponse" in names or "BaseError" not in names:
        return BadAnswer(f"{exchange} answered in a shape that is not its own", exchange=exchange)
    if "RequestTimeout" in names:
        return ExchangeUnavailable(f"{exchange} did not answer in time", exchange=exchange)
    return ExchangeUnavailable(f"{exchange} cannot be reached or answers with an error", exchange=exchange)


def redirected(exchange: str, status: int, place: str) -> VenueRefused:
    """The error for a redirect, which would be a second call that nobody has paid for, and perhaps another history."""
    where = f" to {place}" if place else ""
    message = f"{exchange} sends us elsewhere{where} (HTTP {status}): set base_url if that is where its history is"
    return VenueRefused(message, exchange=exchange, http_status=str(status))


def _rate_limited(reply: Reply, exchange: str) -> RateLimited:
    return RateLimited(
        f"{exchange}'s quota is spent" + (f" (HTTP {reply.status})" if reply.status in {403, 418, 429} else ""),
        retry_after_s=_retry_after_s(reply),
        exchange=exchange,
    )


def _retry_after_s(reply: Reply) -> float | None:
    """Seconds to wait by `Retry-After`, else by the ban's end in the body; None if neither is said.

    Instants are held against the reply's own `Date`, so that a wrong host clock neither shortens a ban nor
    lengthens it; without one there is nothing to hold them against.
    """
    asked = reply.headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    now = reply.date_s
    if now is None:
        return None
    if (until := _http_date(asked)) is not None:
        return max(0.0, until - now)
    if (ban := _BANNED_UNTIL.search(reply.body)) is not None:
        return max(0.0, int(ban[1]) / 1000 - now)
    return None


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
