"""`CcxtQuestDBProvider`: the specification's provider, drop-in for qmtl, with the engine in this process.

    from historyd.qmtl import CcxtQuestDBProvider

    provider = CcxtQuestDBProvider.from_config({"exchange": "binance", "symbols": ["BTC/USDT"], "timeframe": "1m"})
    price = StreamInput(interval="60s", period=120, history_provider=provider)

Units, ends and traps are those of markethistory.qmtl. Providers of one store file share one engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from historyd.app import check_exchanges
from historyd.config import Config
from historyd.config_errors import ConfigError
from historyd.qmtl.history import EngineHistory
from historyd.qmtl.resident import resident_engine
from historyd.qmtl.settings import read_settings
from markethistory.qmtl import SeriesProvider, all_series, exchange_of, first_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from historyd.qmtl.resident import ResidentEngine
    from historyd.qmtl.settings import ProviderSettings
    from markethistory.frames import FrameLibrary


class CcxtQuestDBProvider(SeriesProvider):
    """qmtl's history provider for one series, asking the exchange itself."""

    def __init__(self, series: str, resident: ResidentEngine, *, frame: FrameLibrary | None = None) -> None:
        super().__init__(series, frame=frame)
        self._resident = resident

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A provider for the first series of the specification's dictionary.

        Raises ValueError for what is wrong in it. Warns if it asks for QuestDB or the cluster scope, which this
        version replaces by an embedded file and a quota for this process.
        """
        settings = read_settings(config, stacklevel=2)
        return cls(first_series(config), _resident(config, settings), frame=config.get("frame"))

    @classmethod
    def from_config_multi(cls, config: Mapping[str, Any]) -> dict[str, Self]:
        """A provider for every symbol and timeframe of the dictionary, by node id; none without symbols."""
        resident = _resident(config, read_settings(config, stacklevel=2))
        return {series: cls(series, resident, frame=config.get("frame")) for series in all_series(config)}

    def close(self) -> None:
        """Closes the engine of this provider's store file, for all providers of it; the next call reopens it."""
        self._resident.close()

    def _history(self) -> EngineHistory:
        return EngineHistory(self._resident)


def _resident(config: Mapping[str, Any], settings: ProviderSettings) -> ResidentEngine:
    exchange = exchange_of(config).lower()
    try:
        check_exchanges(Config(exchanges={exchange: settings.exchange}))
    except ConfigError as error:
        raise ValueError(str(error)) from None
    resident = resident_engine(settings.store)
    resident.configure(exchange, settings.exchange)
    return resident
