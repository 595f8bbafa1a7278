"""Names near to one that does not exist, for error messages. Pure but for `ccxt_ids`, which lists a directory."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST: Final = 3
_NOT_LETTERS: Final = re.compile(r"[^A-Z0-9]")


@functools.cache
def ccxt_ids() -> frozenset[str]:
    """The ids of all exchanges that the installed ccxt has, without importing it (that takes seconds).

    Empty if ccxt is not installed.
    """
    found = importlib.util.find_spec("ccxt")
    places = found.submodule_search_locations if found is not None else None
    return frozenset(
        file.stem for place in places or () for file in Path(place, "async_support").glob("[a-z]*.py") if file.is_file()
    )


def nearest_names(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of the names that look like this one, best first."""
    return difflib.get_close_matches(name, sorted(names), n=_MOST)


def nearest_symbols(symbol: str, symbols: Iterable[str]) -> list[str]:
    """Up to three symbols that may have been meant, best first.

    Those that differ only in notation (`BTCUSDT`, `btc-usdt`: `BTC/USDT`, `BTC/USDT:USDT`) win over those that
    merely look alike.
    """
    candidates = sorted(symbols, key=lambda known: (len(known), known))
    meant = _letters(symbol)
    same = [known for known in candidates if _letters(known) == meant]
    return same[:_MOST] or difflib.get_close_matches(symbol.upper(), candidates, n=_MOST)


def _letters(symbol: str) -> str:
    """Base and quote, without what stands between them and the settlement currency behind them."""
    return _NOT_LETTERS.sub("", symbol.upper().partition(":")[0])
