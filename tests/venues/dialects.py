"""The five dialects, to parametrise tests with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.venues.binance import Binance
from tests.venues.bybit import Bybit
from tests.venues.coinbase import Coinbase
from tests.venues.kraken import Kraken
from tests.venues.okx import Okx

if TYPE_CHECKING:
    from tests.venues.serving import Dialect

FIVE: Final[tuple[type[Dialect], ...]] = (Binance, Okx, Bybit, Coinbase, Kraken)
