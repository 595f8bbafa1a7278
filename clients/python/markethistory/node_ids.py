"""qmtl's node ids, which are series ids where they can be read, and intervals of whole seconds.

A node id that is none of ours (qmtl hands the content hash of a node to its provider) is not an error: it stands for
the series that the provider was made for.
"""

from __future__ import annotations

import re
from typing import Final

_SERIES: Final = re.compile(r"(ohlcv|trades):([A-Za-z0-9_]+):(\S+)")
_TIMEFRAME: Final = re.compile(r"([1-9]\d{0,3})([smhdwMy])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MONDAY: Final = 345_600
"""1970-01-05 in seconds: weeks begin on Mondays."""


def read_node_id(node_id: str) -> str | None:
    """The series id that a node id is, with its exchange in lower case; None if it is none."""
    match = _SERIES.fullmatch(node_id.strip())
    if match is None:
        return None
    kind, exchange, rest = match.groups()
    if kind == "ohlcv":
        symbol, _, timeframe = rest.rpartition(":")
        if not symbol or _TIMEFRAME.fullmatch(timeframe) is None:
            return None
    return f"{kind}:{exchange.lower()}:{rest}"


def make_node_id(*, exchange_id: str, symbol: str, timeframe: str | None = None, mode: str = "ohlcv") -> str:
    """The series id of an exchange's symbol; `timeframe` is `1m` if absent, and means nothing for trades.

    Raises ValueError if that is no series id.
    """
    mode = (mode or "ohlcv").lower()
    tail = f":{(timeframe or '1m').strip()}" if mode == "ohlcv" else ""
    made = f"{mode}:{exchange_id.strip()}:{symbol.strip()}{tail}"
    series = read_node_id(made)
    if series is None:
        raise ValueError(f"{made!r} is no series id: ohlcv:exchange:symbol:timeframe or trades:exchange:symbol")
    return series


def is_trades(series: str) -> bool:
    """Whether a series is one of trades."""
    return series.startswith("trades:")


def check_interval(series: str, interval: int) -> None:
    """Raises ValueError if bars of the series are not `interval` seconds apart. Any interval suits trades."""
    if interval < 1:
        raise ValueError(f"interval: must be at least 1 second, got {interval}")
    if is_trades(series):
        return
    timeframe = series.rpartition(":")[2]
    count, unit = timeframe[:-1], timeframe[-1]
    if unit not in _SECONDS:
        raise ValueError(f"interval: bars of {series} have no fixed width in seconds")
    seconds = int(count) * _SECONDS[unit]
    if seconds != interval:
        raise ValueError(f"interval: {interval} s does not fit {series}, whose bars are {seconds} s wide")


def first_bar(series: str) -> int:
    """The open time of a bar of the series near 1970, in seconds: where its grid is anchored."""
    return _MONDAY if series.endswith("w") and series.startswith("ohlcv:") else 0
