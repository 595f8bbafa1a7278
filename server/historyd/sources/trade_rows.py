"""Turns trades in ccxt's form into Arrow, in the order in which they happened.

What becomes of a value:
- time: what the venue said, as exactly as it said it (ccxt cuts to milliseconds); null if it cannot be read
- price, amount: that number; null where the venue gave none; NaN where it is no number
- id: as it is, null where there is none; side: `buy`, `sell`, else null

Trades of one time stand by their ids where all ids are whole numbers, else as the venue sent them, oldest first.
Promises: no trade is dropped, added or changed. Never does: judge a trade (quality/trades.py does), or any call.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from historyd.errors import BadAnswer
from historyd.model.rows import RAW_TRADES
from historyd.model.time_range import LATEST, MICROS_PER_MS, MICROS_PER_S, from_datetime
from historyd.sources.ccxt_rows import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_CURSOR_DIGITS: Final = 16
"""Kraken's ids have ten; ccxt appends the cursor of the answer, nineteen, where an old answer has no ids."""


def to_trades(trades: Sequence[Any], exchange: str, *, newest_first: bool) -> pa.RecordBatch:
    """Trades as `parse_trade` of ccxt gives them, in the schema `RAW_TRADES`. Raises BadAnswer if one is no trade."""
    if not all(isinstance(trade, dict) for trade in trades):
        raise BadAnswer(f"{exchange} answered with rows that are no trades", exchange=exchange)
    exact = _EXACT.get(exchange)
    stamps = [_stamp(trade, exact) for trade in trades]
    ids = [_id(trade, exchange) for trade in trades]
    order = _ordered(stamps, ids, newest_first=newest_first)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([stamps[at] for at in order], pa.int64()).cast(RAW_TRADES.field("ts").type),
            pa.array([ids[at] for at in order], pa.string()),
            numbers([trades[at].get("price") for at in order]),
            numbers([trades[at].get("amount") for at in order]),
            pa.array([_side(trades[at]) for at in order], pa.string()),
        ],
        schema=RAW_TRADES,
    )


def _ordered(stamps: Sequence[int | None], ids: Sequence[str | None], *, newest_first: bool) -> list[int]:
    sent = range(len(stamps))
    if all(text is not None and text.isascii() and text.isdecimal() for text in ids):
        return sorted(sent, key=lambda at: (stamps[at] or 0, int(ids[at] or 0)))
    return sorted(reversed(sent) if newest_first else sent, key=lambda at: stamps[at] or 0)


def _id(trade: Mapping[str, Any], exchange: str) -> str | None:
    text = trade.get("id")
    if text is None or text == "":
        return None
    if exchange == "kraken" and len(str(text)) >= _CURSOR_DIGITS:
        return None
    return str(text)


def _side(trade: Mapping[str, Any]) -> str | None:
    side = trade.get("side")
    return side if side in {"buy", "sell"} else None


def _stamp(trade: Mapping[str, Any], exact: Callable[[Any], int | None] | None) -> int | None:
    """Microseconds since 1970; None if there is no time within the years 1970 to 9999."""
    coarse = trade.get("timestamp")
    if not isinstance(coarse, int) or not 0 <= coarse * MICROS_PER_MS < LATEST:
        return None
    if exact is not None:
        try:
            fine = exact(trade.get("info"))
        except (LookupError, TypeError, ValueError, InvalidOperation):
            fine = None
        # The finer reading must be that of the same time.
        if fine is not None and abs(fine - coarse * MICROS_PER_MS) <= MICROS_PER_MS:
            return fine
    return coarse * MICROS_PER_MS


def _iso(text: Any) -> int:
    whole, dot, fraction = str(text).removesuffix("Z").partition(".")
    return from_datetime(datetime.fromisoformat(f"{whole}+00:00")) + (int(f"{fraction:0<6.6}") if dot else 0)


_EXACT: Final[Mapping[str, Callable[[Any], int | None]]] = {
    # Seconds with up to nine decimals, nanoseconds, milliseconds with decimals, ISO 8601 with six decimals.
    "kraken": lambda raw: round(Decimal(str(raw[2])) * MICROS_PER_S),
    "kucoin": lambda raw: int(raw["time"]) // 1000,
    "gate": lambda raw: int(Decimal(str(raw["create_time_ms"])) * MICROS_PER_MS),
    "coinbase": lambda raw: _iso(raw["time"]),
    "coinbaseexchange": lambda raw: _iso(raw["time"]),
}
"""Where a venue's own time is finer than ccxt's: how to read it from its trade."""


def _agg_trade(raw: Any) -> dict[str, Any] | None:
    try:
        side = "sell" if raw["m"] else "buy"
        return {"id": raw["a"], "timestamp": raw["T"], "price": raw["p"], "amount": raw["q"], "side": side}
    except (TypeError, LookupError):
        return None


PLAIN_TRADES: Final[Mapping[str, Callable[[Any], dict[str, Any] | None]]] = dict.fromkeys(
    ("binance", "binanceus", "binanceusdm", "binancecoinm"), _agg_trade
)
"""How to read trades without ccxt's `parse_trade`: 0.4 ms for a thousand instead of 20; None if one is not so."""
