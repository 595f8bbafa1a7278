"""What the CCXT source makes of an exchange that misbehaves, through real ccxt over real HTTP."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from historyd.errors import (
    BadAnswer,
    ExchangeUnavailable,
    HistoryError,
    RateLimited,
    UnknownSymbol,
    VenueRefused,
)
from historyd.model.series import SeriesId
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from tests import venue_faults as fault
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.source_lab import BTC, START, candles_of, minutes, open_lab

if TYPE_CHECKING:
    from historyd.model.wait import Observer
    from historyd.ratelimit.base import Cost
    from tests.venue_faults import Fault

SHAPES = {
    "html": fault.html(),
    "empty body": fault.empty_body(),
    "truncated": fault.truncated(),
    "text": fault.answer('"maintenance"'),
    "object": fault.answer("{}"),
    "object with a list": fault.answer('{"data": []}'),
    "list of objects": fault.answer('[{"open": "1"}]'),
    "list of numbers": fault.answer("[1, 2, 3]"),
    "short rows": fault.answer('[[1704067200000, "1", "1"]]'),
    "null": fault.answer("null"),
}


@pytest.mark.parametrize("spoilt", SHAPES.values(), ids=SHAPES)
async def test_status_200_with_another_shape_is_a_bad_answer_and_never_an_empty_one(spoilt: Fault) -> None:
    async with open_lab() as lab:
        lab.klines.next(spoilt)
        with pytest.raises(BadAnswer):
            await lab.fetch(minutes(10))
        assert lab.klines.left == 0
        assert lab.limiter.slots_held == 0
        assert (await lab.fetch(minutes(10))).rows.num_rows == 10


STATUSES: dict[str, tuple[Fault, type[HistoryError], float | None]] = {
    "429 with Retry-After": (fault.status(429, retry_after="7"), RateLimited, 7.0),
    "429 without": (fault.status(429), RateLimited, None),
    "429 with HTML": (fault.html(429), RateLimited, None),
    "418 with Retry-After": (fault.status(418, retry_after="120"), RateLimited, 120.0),
    "418 without": (fault.status(418), RateLimited, None),
    "401": (fault.status(401), VenueRefused, None),
    "403": (fault.html(403), VenueRefused, None),
    "451": (fault.status(451, body='{"code":0,"msg":"restricted location"}'), VenueRefused, None),
    "400": (fault.status(400, body='{"code":-1100,"msg":"Illegal characters"}'), VenueRefused, None),
    "404": (fault.html(404), VenueRefused, None),
    "400 for the symbol": (fault.status(400, body='{"code":-1121,"msg":"Invalid symbol."}'), UnknownSymbol, None),
    "500": (fault.status(500, body='{"code":-1000,"msg":"unknown"}'), ExchangeUnavailable, 1.0),
    "502": (fault.html(502), ExchangeUnavailable, 1.0),
    "503": (fault.status(503), ExchangeUnavailable, 1.0),
    "503 with Retry-After": (fault.status(503, retry_after="30"), ExchangeUnavailable, 30.0),
    "504": (fault.html(504), ExchangeUnavailable, 1.0),
    "408": (fault.status(408), ExchangeUnavailable, 1.0),
    "reset": (fault.reset(), ExchangeUnavailable, 1.0),
    "200 with an error code": (fault.answer('{"code":-1003,"msg":"Too many requests"}'), RateLimited, None),
}


@pytest.mark.parametrize(("answer", "kind", "retry_after_s"), STATUSES.values(), ids=STATUSES)
async def test_each_failure_has_its_error(answer: Fault, kind: type[HistoryError], retry_after_s: float | None) -> None:
    async with open_lab() as lab:
        await lab.source.check(BTC)
        lab.klines.next(answer)
        with pytest.raises(HistoryError) as raised:
            await lab.fetch(minutes(10))
        assert type(raised.value) is kind
        assert raised.value.retry_after_s == retry_after_s
        assert raised.value.metadata["exchange"] == "binance"
        assert lab.exchange.count("/klines") == 1, "nothing is retried here"
        assert lab.limiter.penalties == ([retry_after_s] if kind is RateLimited else [])


@pytest.mark.parametrize("answer", [case[0] for case in STATUSES.values()], ids=STATUSES)
async def test_public_messages_carry_nothing_of_the_drivers(answer: Fault) -> None:
    async with open_lab() as lab:
        await lab.source.check(BTC)
        lab.klines.next(answer)
        with pytest.raises(HistoryError) as raised:
            await lab.fetch(minutes(10))
        told = f"{raised.value} {raised.value.metadata}"
        assert not any(part in told for part in ("http://", "127.0.0.1", "GET", "klines", "msg", "<html", "-1003"))


async def test_a_bans_end_in_the_body_is_held_against_the_exchanges_clock() -> None:
    body = '{"code":-1003,"msg":"Way too many requests; IP(1.2.3.4) banned until 1704067260000."}'
    banned = fault.answer(body, 418, {"Date": "Mon, 01 Jan 2024 00:00:00 GMT"})
    async with open_lab() as lab:
        lab.klines.next(banned)
        with pytest.raises(RateLimited) as raised:
            await lab.fetch(minutes(10))
        assert raised.value.retry_after_s == 60.0
        assert lab.limiter.penalties == [60.0]


async def test_retry_after_may_be_a_date() -> None:
    headers = {"Date": "Mon, 01 Jan 2024 00:00:00 GMT", "Retry-After": "Mon, 01 Jan 2024 00:00:09 GMT"}
    async with open_lab() as lab:
        lab.klines.next(fault.answer("{}", 429, headers))
        with pytest.raises(RateLimited) as raised:
            await lab.fetch(minutes(10))
        assert raised.value.retry_after_s == 9.0


async def test_concurrent_calls_each_get_their_own_status_and_headers() -> None:
    """ccxt's `last_response_headers` would belong to whichever reply came last."""
    async with open_lab() as lab:
        await lab.source.check(BTC)
        gates = [lab.klines.gate() for _ in range(5)]
        lab.klines.next(*(fault.status(429, retry_after=str(n)) for n in range(5)))
        calls = [asyncio.create_task(lab.fetch(minutes(1, START + n * 60_000_000))) for n in range(5)]
        for gate in gates:
            await gate.reached.wait()
        for gate in reversed(gates):
            gate.open()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        told = sorted(error.retry_after_s or 0.0 for error in errors if isinstance(error, RateLimited))
        assert told == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_an_exchange_that_never_answers_is_unavailable() -> None:
    async with open_lab(ccxt={"timeout": 1000}) as lab:
        await lab.source.check(BTC)
        lab.klines.next(fault.hang())
        with pytest.raises(ExchangeUnavailable, match="in time"):
            await lab.fetch(minutes(10))
        assert lab.limiter.slots_held == 0


async def test_an_exchange_that_is_not_there_is_unavailable() -> None:
    options = {"binance": ExchangeOptions(base_url="http://127.0.0.1:1")}
    async with CcxtSource(lambda *_: RecordingLimiter(), options) as source:
        with pytest.raises(ExchangeUnavailable, match="cannot be reached"):
            await source.check(BTC)


async def test_rows_outside_of_the_window_are_handed_on() -> None:
    async with open_lab() as lab:
        lab.klines.next(fault.ignoring_window())
        rows = candles_of((await lab.fetch(minutes(10))).rows)
        assert [row[0] for row in rows] == [START // 1000 + 86_400_000 + n * 60_000 for n in range(10)]


async def test_order_doubles_and_odd_stamps_are_handed_on() -> None:
    async with open_lab() as lab:
        good = candles_of((await lab.fetch(minutes(10))).rows)
        lab.klines.next(fault.out_of_order(), fault.duplicated(), fault.off_grid(at=3))
        assert candles_of((await lab.fetch(minutes(10))).rows) == good[::-1]
        assert candles_of((await lab.fetch(minutes(10))).rows) == [row for row in good for _ in range(2)]
        off = candles_of((await lab.fetch(minutes(10))).rows)
        assert [row[0] for row in off][3] == good[3][0] + 7


async def test_the_open_bar_is_handed_on() -> None:
    """Cutting it is the engine's work: only it knows the settle delay."""
    async with open_lab() as lab:
        open_at = lab.exchange.clock() // 60_000 * 60_000
        rows = candles_of((await lab.fetch(minutes(10, (open_at - 60_000) * 1000))).rows)
        assert open_at in [row[0] for row in rows]


@pytest.mark.parametrize(
    ("cell", "value", "expected"),
    [
        (5, None, None),
        (1, "12.5", 12.5),
        (1, 12, 12.0),
        (2, "abc", math.nan),
        (2, [1], math.nan),
        (3, "NaN", math.nan),
        (4, "Infinity", math.inf),
        (0, None, None),
        (0, "soon", None),
        (0, -5, None),
        (0, 10**18, None),
        (0, 1.5, None),
    ],
)
async def test_no_row_is_dropped_for_what_cannot_be_read_of_it(cell: int, value: Any, expected: float | None) -> None:
    async with open_lab() as lab:
        lab.klines.next(fault.with_cell(3, cell, value))
        rows = candles_of((await lab.fetch(minutes(10))).rows)
        assert len(rows) == 10
        assert rows[3][cell] == pytest.approx(expected, nan_ok=True)


async def test_cancelling_one_of_those_who_load_the_markets_harms_no_other() -> None:
    async with open_lab() as lab:
        gate = lab.markets.gate()
        first, second = (asyncio.create_task(lab.fetch(minutes(5))) for _ in range(2))
        await gate.reached.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.open()
        assert (await second).rows.num_rows == 5
        assert lab.exchange.count("/exchangeInfo") == 1


async def test_cancelling_all_who_load_the_markets_keeps_the_load() -> None:
    async with open_lab() as lab:
        gate = lab.markets.gate()
        only = asyncio.create_task(lab.fetch(minutes(5)))
        await gate.reached.wait()
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        gate.open()
        assert (await lab.fetch(minutes(5))).rows.num_rows == 5
        assert lab.exchange.count("/exchangeInfo") == 1


async def test_a_failed_market_load_is_told_to_all_and_tried_again_by_the_next() -> None:
    async with open_lab() as lab:
        lab.markets.next(fault.status(503))
        gate = lab.markets.gate()
        calls = [asyncio.create_task(lab.fetch(minutes(5))) for _ in range(3)]
        await gate.reached.wait()
        gate.open()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [ExchangeUnavailable] * 3
        assert (await lab.fetch(minutes(5))).rows.num_rows == 5
        assert lab.exchange.count("/exchangeInfo") == 2


@pytest.mark.parametrize("answer", [fault.html(), fault.answer("{}"), fault.answer('{"symbols": []}')])
async def test_a_market_list_that_is_none_does_not_make_symbols_unknown(answer: Fault) -> None:
    async with open_lab() as lab:
        lab.markets.next(answer)
        with pytest.raises(BadAnswer):
            await lab.source.check(BTC)
        await lab.source.check(BTC)


async def test_spot_is_served_while_the_hosts_of_the_perpetuals_refuse() -> None:
    async with open_lab() as lab:
        await lab.source.check(BTC)
        lab.markets.next(fault.status(451), fault.status(451))
        with pytest.raises(VenueRefused):
            await lab.source.check(SeriesId.parse("ohlcv:binance:BTC/USDT:USDT:1m"))
        assert (await lab.fetch(minutes(5))).rows.num_rows == 5


async def test_a_cancelled_call_leaves_no_slot_and_no_connection_busy() -> None:
    async with open_lab() as lab:
        await lab.source.check(BTC)
        gate = lab.klines.gate()
        call = asyncio.create_task(lab.fetch(minutes(5)))
        await gate.reached.wait()
        assert lab.limiter.slots_held == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert lab.limiter.slots_held == 0
        gate.open()
        assert (await lab.fetch(minutes(5))).rows.num_rows == 5


async def test_leaving_while_the_markets_are_loaded_ends_the_load() -> None:
    async with open_lab() as lab:
        gate = lab.markets.gate()
        call = asyncio.create_task(lab.fetch(minutes(5)))
        await gate.reached.wait()
    with pytest.raises(HistoryError):
        await call


async def test_a_refusal_of_our_own_limiter_is_no_penalty_of_the_venues() -> None:
    class Spent(RecordingLimiter):
        async def acquire(self, cost: Cost, observer: Observer) -> None:
            raise RateLimited("the quota is spent for longer than was allowed", retry_after_s=90.0)

    spent = Spent()
    async with CcxtSource(lambda *_: spent, {"binance": ExchangeOptions(base_url="http://127.0.0.1:1")}) as source:
        with pytest.raises(RateLimited) as raised:
            await source.fetch_bars(BTC, minutes(5), RecordingObserver())
        assert raised.value.retry_after_s == 90.0
        assert spent.penalties == []
        assert spent.slots_held == 0
