"""The bridge to qmtl: a history provider for `StreamInput(history_provider=...)` on a historyd server.

    from markethistory.qmtl import HistoryProvider

    provider = HistoryProvider("ohlcv:binance:BTC/USDT:1m")
    price = StreamInput(interval="60s", period=120, history_provider=provider)

qmtl's units: times are whole seconds since 1970 UTC, a bar's `ts` is its open time. `fetch` is half-open,
`ensure_range`, `fill_missing` and `coverage` are inclusive at both ends.

Promises: imports nothing of qmtl. Never does: offer `read_range` or `write_rows`, as qmtl would then take it for a
storage backend and wrap it.
"""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from markethistory import aio
from markethistory.frames import FrameLibrary, columns_of, empty_table, frame_library, to_frame
from markethistory.node_ids import check_interval, first_bar, is_trades, make_node_id, read_node_id
from markethistory.requests import DEFAULT_TARGET
from markethistory.values import CoverageState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    import pyarrow as pa

    from markethistory.channels import Tls
    from markethistory.values import CoverageSpan

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LATEST: Final = 253_402_214_400
"""9999-12-31, the end of the last range that can be asked for."""
SERIES_KEYS: Final = frozenset({"mode", "exchange", "exchange_id", "symbols", "timeframe", "timeframes", "frame"})
"""Keys of a provider dictionary that say which series, and how its frames look."""
_CONNECTION_KEYS: Final = frozenset({"server", "tls", "token"})
_SERVER_KEYS: Final = frozenset({"questdb", "rate_limiter", "window_size", "max_retries", "retry_backoff_s"})


class History(Protocol):
    """What a provider needs of a history; `markethistory.aio.AsyncClient` has it."""

    async def read(self, series: str, start: datetime, end: datetime, *, columns: Sequence[str]) -> pa.Table:
        """Rows of `[start, end)`, fetched first if need be."""

    async def ensure(self, series: str, start: datetime, end: datetime) -> object:
        """Makes `[start, end)` covered."""

    async def coverage(self, series: str) -> Sequence[CoverageSpan]:
        """Spans that tile all of time up to now, ascending."""


class SeriesProvider(ABC):
    """qmtl's history provider for one series, on any history.

    Args:
        series: what node ids that are no series ids stand for; qmtl hands over hashes of its nodes.
        frame: `polars` or `pandas`; default polars if it is installed, else pandas.
    """

    def __init__(self, series: str, *, frame: FrameLibrary | None = None) -> None:
        known = read_node_id(series)
        if known is None:
            raise ValueError(f"series: {series!r} is none such as ohlcv:binance:BTC/USDT:1m")
        self.series: Final = known
        self._library = frame_library(frame)

    @abstractmethod
    def _history(self) -> History:
        """The history to ask, for the running event loop."""

    def bind_stream(self, stream: object) -> None:  # noqa: B027 -- qmtl calls it, there is nothing to do
        """Part of qmtl's protocol; the series is known, whatever the stream."""

    async def fetch(self, start: int, end: int, *, node_id: str, interval: int) -> Any:
        """A frame of the rows of `[start, end)`, fetched first if need be; no rows make an empty one.

        Raises ValueError if `interval` does not fit the series. Warns of what cannot be had.
        """
        series = self._series(node_id, interval)
        first, behind = _moment(start), _moment(end)
        if first >= behind:
            return to_frame(empty_table(series), self._library)
        table = await self._history().read(series, first, behind, columns=columns_of(series))
        return to_frame(table, self._library)

    async def coverage(self, *, node_id: str, interval: int) -> list[tuple[int, int]]:
        """Spans `(first ts, last ts)`, both inclusive, of which nothing more can be learned by asking now.

        That is what is stored or confirmed empty, and what the exchange cannot serve (`fetch` warns of it), and the
        bar that is still open: qmtl asks again without a pause for what is not in here. Trades are told by intervals
        (1 s is the most exact): `ts` is where one begins, and one is in here if all of its time is known.
        """
        series = self._series(node_id, interval)
        spans = list(await self._history().coverage(series))
        found: list[tuple[int, int]] = []
        for start, end in _settled(spans):
            first, last = _bars_inside(start, end, interval, first_bar(series))
            if is_trades(series) and end != spans[-1].range.end:
                # Trades of an interval are there if all of it is; the last one has not ended, as an open bar has not.
                last = _bars_inside(start, end - timedelta(seconds=interval) + _MICROSECOND, interval, 0)[1]
            if first <= last:
                found.append((first, last))
        return found

    async def ensure_range(self, start: int, end: int, *, node_id: str, interval: int) -> None:
        """Makes the bars that open from `start` to `end`, both inclusive, covered. Nothing if `start` > `end`.

        Of trades those of the intervals that begin from `start` to `end`.
        """
        series = self._series(node_id, interval)
        if start <= end:
            await self._history().ensure(series, _moment(start), _moment(end + (interval if is_trades(series) else 1)))

    async def fill_missing(self, start: int, end: int, *, node_id: str, interval: int) -> None:
        """The same as `ensure_range`: what is known, even to be empty, is not asked for again."""
        await self.ensure_range(start, end, node_id=node_id, interval=interval)

    @staticmethod
    def make_node_id(*, exchange_id: str, symbol: str, timeframe: str | None = None, mode: str = "ohlcv") -> str:
        """The series id of an exchange's symbol. Raises ValueError if that is none."""
        return make_node_id(exchange_id=exchange_id, symbol=symbol, timeframe=timeframe, mode=mode)

    def _series(self, node_id: str, interval: int) -> str:
        series = read_node_id(node_id) or self.series
        check_interval(series, interval)
        return series


class HistoryProvider(SeriesProvider):
    """qmtl's history provider for one series of a historyd server at `server`; `tls` and `token` as in `connect`.

    It may be used from several event loops, one after the other. `aclose`, or an `async with` block, closes its
    connection; a loop that ends without that closes it, too.
    """

    def __init__(
        self,
        series: str,
        *,
        server: str = DEFAULT_TARGET,
        tls: Tls | bool = False,
        token: str | None = None,
        frame: FrameLibrary | None = None,
    ) -> None:
        super().__init__(series, frame=frame)
        self._server = server
        self._tls = tls
        self._token = token
        self._client: aio.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A provider for the first series of a configuration in qmtl's words.

        Keys: `mode`, `exchange` or `exchange_id`, `symbols`, `timeframe`, `server` (`host:port`), `tls`, `token`,
        `frame`. What the server decides (`questdb`, `rate_limiter`, `window_size` ...) is passed over with a warning.
        Raises ValueError.
        """
        check_keys(config, SERIES_KEYS | _SERVER_KEYS | _CONNECTION_KEYS)
        decided = sorted(_SERVER_KEYS & config.keys())
        if decided:
            warnings.warn(f"the server decides about {', '.join(decided)}: set it in its configuration", stacklevel=2)
        return cls(first_series(config), **_chosen(config, *_CONNECTION_KEYS, "frame"))

    @classmethod
    def from_config_multi(cls, config: Mapping[str, Any]) -> dict[str, Self]:
        """A provider for each series of a configuration, by node id; see `all_series`."""
        check_keys(config, SERIES_KEYS | _SERVER_KEYS | _CONNECTION_KEYS)
        return {series: cls(series, **_chosen(config, *_CONNECTION_KEYS, "frame")) for series in all_series(config)}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection; the next call opens another."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    def _history(self) -> History:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = aio.connect(self._server, tls=self._tls, token=self._token), loop
        return self._client


def first_series(config: Mapping[str, Any]) -> str:
    """The series that a configuration names first. Raises ValueError if it names none."""
    symbols = config.get("symbols")
    if not symbols or isinstance(symbols, str):
        raise ValueError("symbols: a list with at least one symbol such as BTC/USDT is needed")
    return make_node_id(
        exchange_id=exchange_of(config),
        symbol=symbols[0],
        timeframe=config.get("timeframe"),
        mode=config.get("mode", "ohlcv"),
    )


def all_series(config: Mapping[str, Any]) -> list[str]:
    """The series of every symbol and, for bars, every timeframe of `timeframes` (else `timeframe`, else 1m)."""
    symbols = [symbol for symbol in config.get("symbols") or () if symbol]
    mode = config.get("mode", "ohlcv")
    timeframes = list(config.get("timeframes") or [config.get("timeframe") or "1m"])
    wanted = [None] if mode.lower() == "trades" else timeframes
    made = [
        make_node_id(exchange_id=exchange_of(config), symbol=symbol, timeframe=timeframe, mode=mode)
        for symbol in symbols
        for timeframe in wanted
    ]
    return list(dict.fromkeys(made))


def check_keys(config: Mapping[str, Any], valid: Iterable[str]) -> None:
    """Raises ValueError for a key that there is not, naming the nearest one."""
    names = sorted(valid)
    for key in config:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
            raise ValueError(f"no such key {key!r}{hint}")


def exchange_of(config: Mapping[str, Any]) -> str:
    """The exchange that a configuration names, as it is written there; `binance` if it names none."""
    return str(config.get("exchange") or config.get("exchange_id") or "binance")


def _chosen(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: config[key] for key in keys if config.get(key) is not None}


def _moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=min(max(int(seconds), 0), _LATEST))


def _settled(spans: Iterable[CoverageSpan]) -> list[tuple[datetime, datetime]]:
    """The spans of which nothing more can be learned now, neighbours joined."""
    joined: list[tuple[datetime, datetime]] = []
    for span in spans:
        if span.state is CoverageState.MISSING:
            continue
        if joined and joined[-1][1] == span.range.start:
            joined[-1] = (joined[-1][0], span.range.end)
        else:
            joined.append((span.range.start, span.range.end))
    return joined


def _bars_inside(start: datetime, end: datetime, interval: int, anchor: int) -> tuple[int, int]:
    """The first and the last bar that open in `[start, end)`, in seconds; the first is later if there is none."""
    before, last = ((edge - _MICROSECOND - _EPOCH) // timedelta(seconds=1) for edge in (start, end))
    return (
        (before - anchor) // interval * interval + interval + anchor,
        (last - anchor) // interval * interval + anchor,
    )
