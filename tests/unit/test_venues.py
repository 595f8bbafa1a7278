"""The venue table against the installed ccxt, which every entry speaks of."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit

import pytest

from historyd.sources.ccxt_exchange import Desk
from historyd.sources.ccxt_setup import build_exchange
from historyd.sources.clock import VenueClock
from historyd.sources.nearest import ccxt_ids, nearest_symbols
from historyd.sources.options import ExchangeOptions
from historyd.sources.venues import MAIN_GROUP, UNKNOWN_VENUE, VENUES, Listing, traits_of, venue_of
from tests.limiters import RecordingLimiter

ccxt: Any = importlib.import_module("ccxt.async_support")


def build(exchange: str, **options: Any) -> Any:
    desk = Desk(exchange, traits_of(exchange), lambda _: RecordingLimiter(), VenueClock(lambda: 0), lambda: 0)
    return build_exchange(desk, ExchangeOptions(**options))


def urls_of(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [url for branch in tree.values() for url in urls_of(branch)]
    return [tree] if isinstance(tree, str) else []


def test_the_ids_are_ccxts_own() -> None:
    assert ccxt_ids() == set(ccxt.exchanges)


def test_every_entry_is_an_exchange_with_bars() -> None:
    assert {name for name in VENUES if getattr(ccxt, name)().has["fetchOHLCV"] is True} == set(VENUES)


@pytest.mark.parametrize("exchange", VENUES)
def test_the_host_of_an_entry_is_one_that_ccxt_asks(exchange: str) -> None:
    plain = getattr(ccxt, exchange)()
    hosts = {urlsplit(url.replace("{hostname}", plain.hostname or "")).netloc for url in urls_of(plain.urls["api"])}
    assert VENUES[exchange].host in hosts


@pytest.mark.parametrize("exchange", VENUES)
def test_no_page_is_larger_than_ccxt_would_ask_for_at_once(exchange: str) -> None:
    """ccxt's own `features` are a hint, and the table never goes beyond it."""
    spot = (getattr(ccxt, exchange)().features or {}).get("spot") or {}
    limit = (spot.get("fetchOHLCV") or {}).get("limit")
    assert limit is None or VENUES[exchange].page_bars <= limit


@pytest.mark.parametrize(
    ("api", "group", "weight"),
    [("public", MAIN_GROUP, 2.0), ("fapiPublic", "fapi", 0.4), ("dapiPublic", "dapi", 0.4), ("sapi", MAIN_GROUP, 2.0)],
)
def test_binances_hosts_have_budgets_of_their_own(api: str, group: str, weight: float) -> None:
    traits = traits_of("binance")
    assert traits.host_group(api) == group
    assert traits.weight(group, 0.4) == pytest.approx(weight)


def test_a_venue_outside_of_the_table_goes_by_the_safest_rules() -> None:
    assert "whitebit" in ccxt_ids()
    assert traits_of("whitebit") is UNKNOWN_VENUE
    assert venue_of("whitebit").page_bars <= 500
    assert UNKNOWN_VENUE.end_param == ""
    assert UNKNOWN_VENUE.listing is Listing.UNTOLD
    assert venue_of("whitebit").listing_calls is None


def test_a_window_size_only_makes_pages_smaller() -> None:
    assert venue_of("okx", 5000).page_bars == venue_of("okx").page_bars
    assert venue_of("okx", 50).page_bars == 50


def test_kraken_says_how_deep_it_reaches() -> None:
    assert venue_of("kraken").depth_bars == 720


@pytest.mark.slow
def test_base_url_replaces_every_rest_host_of_every_exchange_and_keeps_the_paths() -> None:
    for exchange in sorted(ccxt_ids()):
        before = urls_of(getattr(ccxt, exchange)().urls["api"])
        after = urls_of(build(exchange, base_url="http://127.0.0.1:9000/").urls["api"])
        for old, new in zip(before, after, strict=True):
            if old.startswith("http"):
                _, slash, path = old.split("//", 1)[1].partition("/")
                assert new == f"http://127.0.0.1:9000{slash}{path}", exchange


def test_base_url_holds_in_the_sandbox_too() -> None:
    sandbox = build("binance", base_url="http://127.0.0.1:9000", ccxt={"options": {"sandbox": True}})
    assert sandbox.urls["api"]["public"] == "http://127.0.0.1:9000/api/v3"


def test_ccxts_own_throttle_and_retries_cannot_be_turned_on() -> None:
    exchange = build("binance", ccxt={"enableRateLimit": False, "options": {"maxRetriesOnFailure": 3}})
    assert exchange.enableRateLimit is True
    assert exchange.options["maxRetriesOnFailure"] == 0


def test_what_the_user_gives_ccxt_arrives() -> None:
    exchange = build("binance", ccxt={"apiKey": "k", "timeout": 1234, "options": {"defaultType": "swap"}})
    assert (exchange.apiKey, exchange.timeout, exchange.options["defaultType"]) == ("k", 1234, "swap")
    assert exchange.aiohttp_trust_env is True


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("BTCUSDT", ["BTC/USDT", "BTC/USDT:USDT"]),
        ("btc-usdt", ["BTC/USDT", "BTC/USDT:USDT"]),
        ("BTC/USDC", ["BTC/USDT"]),
        ("XYZ", []),
    ],
)
def test_nearest_symbols(asked: str, expected: list[str]) -> None:
    known = ["ETH/USDT", "BTC/USDT:USDT", "BTC/USDT", "SOL/EUR"]
    assert nearest_symbols(asked, known)[: max(1, len(expected))] == expected


def test_options_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ExchangeOptions(window_size=0)
    with pytest.raises(ValueError, match="at least 1"):
        ExchangeOptions(max_retries=0)
