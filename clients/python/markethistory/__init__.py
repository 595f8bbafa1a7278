"""Market history as Arrow tables, from a historyd server.

    import markethistory

    with markethistory.connect("127.0.0.1:50051") as history:
        table = history.read("ohlcv:binance:BTC/USDT:1m", "2024-01-01", "2024-02-01")

`markethistory.aio.connect` is the asyncio twin, `markethistory.qmtl` the bridge to qmtl.
"""

from markethistory.channels import Tls
from markethistory.client import Client, connect
from markethistory.errors import (
    AccessDenied,
    DataLoss,
    Incomplete,
    IncompleteHistoryWarning,
    IncompleteStream,
    InvalidRequest,
    MarketHistoryError,
    NotFound,
    RateLimited,
    Refused,
    ServerError,
    TimedOut,
    Unavailable,
)
from markethistory.many import SeriesResult
from markethistory.quality import QualityDay, QualityReport, QuarantinedRow
from markethistory.retry import RetryPolicy
from markethistory.streams import BatchStream
from markethistory.values import (
    CoverageSpan,
    CoverageState,
    EnsurePlan,
    EnsureProgress,
    EnsureResult,
    Market,
    Markets,
    ReadSummary,
    StoredSeries,
    TimeRange,
    Wait,
    WaitCause,
)

__all__ = [
    "AccessDenied",
    "BatchStream",
    "Client",
    "CoverageSpan",
    "CoverageState",
    "DataLoss",
    "EnsurePlan",
    "EnsureProgress",
    "EnsureResult",
    "Incomplete",
    "IncompleteHistoryWarning",
    "IncompleteStream",
    "InvalidRequest",
    "Market",
    "MarketHistoryError",
    "Markets",
    "NotFound",
    "QualityDay",
    "QualityReport",
    "QuarantinedRow",
    "RateLimited",
    "ReadSummary",
    "Refused",
    "RetryPolicy",
    "SeriesResult",
    "ServerError",
    "StoredSeries",
    "TimeRange",
    "TimedOut",
    "Tls",
    "Unavailable",
    "Wait",
    "WaitCause",
    "connect",
]
