"""What each of ccxt's errors becomes, with ccxt's real classes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from historyd.errors import (
    BadAnswer,
    ExchangeUnavailable,
    HistoryError,
    RateLimited,
    ShuttingDown,
    UnknownSymbol,
    VenueRefused,
)
from historyd.sources.ccxt_errors import Reply, judge
from historyd.sources.venues import traits_of

ccxt: Any = importlib.import_module("ccxt.base.errors")

CASES: dict[str, tuple[int | None, str, type[HistoryError]]] = {
    "okx 50011 behind 200": (200, "RateLimitExceeded", RateLimited),
    "okx 429 with HTML": (429, "ExchangeNotAvailable", RateLimited),
    "kraken too many requests behind 200": (200, "DDoSProtection", RateLimited),
    "binance 418": (418, "DDoSProtection", RateLimited),
    "upbit 429": (429, "ExchangeError", RateLimited),
    "bitfinex 11010 behind 500": (500, "RateLimitExceeded", RateLimited),
    "cloudflare's shield behind 530": (530, "DDoSProtection", ExchangeUnavailable),
    "binance 451": (451, "ExchangeNotAvailable", VenueRefused),
    "binance 403": (403, "ExchangeNotAvailable", VenueRefused),
    "bad key": (401, "AuthenticationError", VenueRefused),
    "bad key behind 200": (200, "PermissionDenied", VenueRefused),
    "place not served behind 200": (200, "RestrictedLocation", VenueRefused),
    "binance -1000 behind 500": (500, "OperationFailed", ExchangeUnavailable),
    "maintenance behind 200": (200, "OnMaintenance", ExchangeUnavailable),
    "code that ccxt does not know": (200, "ExchangeError", ExchangeUnavailable),
    "timeout": (None, "RequestTimeout", ExchangeUnavailable),
    "gateway timeout": (504, "RequestTimeout", ExchangeUnavailable),
    "connection refused": (None, "ExchangeNotAvailable", ExchangeUnavailable),
    "symbol unknown to ccxt": (None, "BadSymbol", UnknownSymbol),
    "symbol unknown to the venue": (400, "BadSymbol", UnknownSymbol),
    "bad question": (400, "BadRequest", VenueRefused),
    "bad question by ccxt's own check": (None, "ArgumentsRequired", VenueRefused),
    "not supported": (None, "NotSupported", VenueRefused),
    "bad response": (200, "BadResponse", BadAnswer),
    "null response": (200, "NullResponse", BadAnswer),
    "closed": (None, "ExchangeClosedByUser", ShuttingDown),
}


@pytest.mark.parametrize(("status", "name", "kind"), CASES.values(), ids=CASES)
def test_status_first_class_second(status: int | None, name: str, kind: type[HistoryError]) -> None:
    error = getattr(ccxt, name)("text of the driver")
    judged = judge(error, Reply(status), "binance", traits_of("binance"), "BTC/USDT")
    assert type(judged) is kind
    assert "text of the driver" not in f"{judged} {judged.metadata}"


def test_bybits_403_is_its_quota() -> None:
    error = ccxt.RateLimitExceeded("bybit 403")
    assert isinstance(judge(error, Reply(403), "bybit", traits_of("bybit"), None), RateLimited)


@pytest.mark.parametrize("error", [KeyError("result"), TypeError("NoneType"), IndexError(), ValueError("int()")])
def test_a_stumble_of_ccxts_parser_is_a_bad_answer(error: Exception) -> None:
    assert type(judge(error, Reply(200), "kraken", traits_of("kraken"), "BTC/USD")) is BadAnswer


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours = BadAnswer("x")
    assert judge(ours, Reply(500), "kraken", traits_of("kraken"), None) is ours


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "17"}, "", 17.0),
        ({"retry-after": "17"}, "banned until 1704067260000", 17.0),
        ({"date": "Mon, 01 Jan 2024 00:00:00 GMT"}, "IP banned until 1704067260000.", 60.0),
        ({"date": "Mon, 01 Jan 2024 00:02:00 GMT"}, "IP banned until 1704067260000.", 0.0),
        ({}, "IP banned until 1704067260000.", None),
        ({"date": "Mon, 01 Jan 2024 00:00:00 GMT", "retry-after": "Mon, 01 Jan 2024 00:01:00 GMT"}, "", 60.0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-3"}, "", None),
        ({"date": "yesterday"}, "banned until 1704067260000", None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], body: str, seconds: float | None) -> None:
    judged = judge(ccxt.DDoSProtection(), Reply(418, headers, body), "binance", traits_of("binance"), None)
    assert judged.retry_after_s == seconds
