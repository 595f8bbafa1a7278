"""Sets up a ccxt exchange: our hooks before its class, the user's settings, its URLs led to `base_url`.

Also tells, without ccxt, which host those settings lead to. Never does: any call.
"""

from __future__ import annotations

import importlib
import re
import ssl
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from historyd.sources.ccxt_exchange import GovernedCalls

if TYPE_CHECKING:
    from historyd.sources.ccxt_exchange import Desk
    from historyd.sources.options import ExchangeOptions
    from historyd.sources.venues import VenueTraits

_ORIGIN: Final = re.compile(r"^https?://[^/]+")


def build_exchange(desk: Desk, options: ExchangeOptions) -> Any:
    """A ccxt exchange under our rules. Imports ccxt, which takes a second or two: run it in a thread.

    Raises ImportError without ccxt, AttributeError for an unknown id.
    """
    pa.array([0])  # pyarrow imports pandas, where it is installed, at its first array: not on the event loop
    plain = getattr(importlib.import_module("ccxt.async_support"), desk.exchange)
    governed = type(f"Governed_{desk.exchange}", (GovernedCalls, plain), {"_desk": desk})
    # ccxt's own throttle and retries stay out of it: `throttle` is ours and is called only if rate limiting is on.
    exchange = governed({"aiohttp_trust_env": True, **options.ccxt, "enableRateLimit": True})
    exchange.options["maxRetriesOnFailure"] = 0
    if exchange.verify and not exchange.options.get("include_OS_certificates"):
        # ccxt would read the certificates when it sends its first call, 60 ms in which nobody else is served.
        exchange.ssl_context = ssl.create_default_context(cafile=exchange.cafile)
    if desk.traits.skip_currencies:
        exchange.has["fetchCurrencies"] = False
    if options.base_url is not None:
        exchange.urls["api"] = rebased(exchange.urls["api"], options.base_url.rstrip("/"))
        if options.base_url.startswith("http:"):
            exchange.timeout_on_exit = 0  # ccxt waits a quarter of a second for TLS connections to close
    return exchange


def rebased(urls: Any, base_url: str) -> Any:
    """The tree of ccxt's URLs with scheme and host replaced, paths (and other schemes, as wss) kept."""
    if isinstance(urls, dict):
        return {name: rebased(value, base_url) for name, value in urls.items()}
    return _ORIGIN.sub(lambda _: base_url, urls) if isinstance(urls, str) else urls


def origin_host(options: ExchangeOptions, traits: VenueTraits, exchange: str) -> str:
    """The host whose history these settings lead to; without any, the venue's own."""
    settings = options.ccxt
    asked = options.base_url or _first_text(settings.get("urls", {}).get("api"))
    if asked is not None:
        return re.sub(r"^\w+://", "", asked).split("/")[0]
    return str(settings.get("hostname") or traits.host or f"{exchange}'s own host")


def is_sandbox(options: ExchangeOptions) -> bool:
    """Whether ccxt is told to talk to the venue's sandbox."""
    told = options.ccxt.get("options", {})
    return any(bool(told.get(name)) for name in ("sandbox", "testnet", "enableDemoTrading"))


def _first_text(urls: Any) -> str | None:
    if isinstance(urls, dict):
        return next((text for value in urls.values() if (text := _first_text(value))), None)
    return urls if isinstance(urls, str) else None
