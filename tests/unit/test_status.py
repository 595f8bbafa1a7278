"""Errors become the statuses that the contract promises, and nothing private goes with them."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, error_details_pb2

from historyd import errors
from historyd.service.status import DOMAIN, status_of, status_of_incident
from markethistory.v1 import error_reason_pb2

EVERY_ERROR: list[tuple[errors.HistoryError, int]] = [
    (errors.InvalidField("range.end", "x", "must be later"), code_pb2.INVALID_ARGUMENT),
    (errors.InvalidSeries("x", "must be one"), code_pb2.INVALID_ARGUMENT),
    (errors.UnknownExchange("binanse", ["binance"]), code_pb2.NOT_FOUND),
    (errors.UnknownSymbol("binance", "BTCUSDT", ["BTC/USDT"]), code_pb2.NOT_FOUND),
    (errors.UnknownTimeframe("binance", "7m", ["1m"]), code_pb2.NOT_FOUND),
    (errors.Incomplete("hole", series="s", first_gap="g"), code_pb2.FAILED_PRECONDITION),
    (errors.NoSource("binance"), code_pb2.FAILED_PRECONDITION),
    (errors.VenueRefused("451", exchange="binance"), code_pb2.FAILED_PRECONDITION),
    (errors.OriginMismatch("binance", "a", "b"), code_pb2.FAILED_PRECONDITION),
    (errors.RateLimited("spent", retry_after_s=2.5, exchange="binance"), code_pb2.RESOURCE_EXHAUSTED),
    (errors.ExchangeUnavailable("503", exchange="binance"), code_pb2.UNAVAILABLE),
    (errors.BadAnswer("html", exchange="binance"), code_pb2.UNAVAILABLE),
    (errors.StoreUnavailable("full", cause="disk full"), code_pb2.UNAVAILABLE),
    (errors.QuotaUnavailable("away", key="ccxt:binance"), code_pb2.UNAVAILABLE),
    (errors.ShuttingDown(), code_pb2.UNAVAILABLE),
    (errors.CorruptPage("s", "p"), code_pb2.DATA_LOSS),
    (errors.Unauthenticated("missing"), code_pb2.UNAUTHENTICATED),
]


@pytest.mark.parametrize(("error", "code"), EVERY_ERROR, ids=lambda value: type(value).__name__)
def test_an_error_has_its_code_its_reason_and_its_metadata(error: errors.HistoryError, code: int) -> None:
    status = status_of(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (code, str(error))
    assert (info.domain, info.reason, dict(info.metadata)) == (DOMAIN, error.reason, error.metadata)


def test_every_reason_of_the_contract_is_sent_for_some_error() -> None:
    """No error has a reason that the contract lacks, and no reason of the contract is never sent."""
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert {error.reason for error, _ in EVERY_ERROR} == names - {"UNSPECIFIED", "INTERNAL"}


@pytest.mark.parametrize(("error", "_code"), EVERY_ERROR, ids=lambda value: type(value).__name__)
def test_retry_info_is_there_just_if_a_retry_can_help(error: errors.HistoryError, _code: int) -> None:
    retry = error_details_pb2.RetryInfo()
    told = [detail.Unpack(retry) for detail in status_of(error).details]
    assert any(told) is isinstance(error, (errors.Away, errors.RateLimited))
    if any(told):
        assert retry.retry_delay.ToMilliseconds() == (error.retry_after_s or 0) * 1000


def test_a_wrong_field_is_a_field_violation() -> None:
    request = error_details_pb2.BadRequest()
    status = status_of(errors.InvalidField("range.end", "x", "must be later"))
    assert any(detail.Unpack(request) for detail in status.details)
    assert [violation.field for violation in request.field_violations] == ["range.end"]


def test_long_values_are_cut_so_that_the_trailers_hold_them() -> None:
    status = status_of(errors.InvalidField("columns", "x" * 100_000, "must be a column"))
    assert len(status.SerializeToString()) < 4_000


def test_an_incident_says_its_number_and_nothing_else() -> None:
    info = error_details_pb2.ErrorInfo()
    status = status_of_incident("5f0c7a1e")
    assert status.details[0].Unpack(info)
    assert status.code == code_pb2.INTERNAL
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"incident": "5f0c7a1e"})
