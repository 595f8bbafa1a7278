"""What can be set for one exchange of the CCXT source. Plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """Settings of one exchange; the defaults are those of an exchange that nobody named.

    Attributes:
        base_url: replaces scheme and host of all of ccxt's REST URLs, paths kept; None: the exchange's own.
        ccxt: passed to ccxt's constructor as it is (apiKey, options, timeout in ms, proxies ...).
        window_size: most bars asked for in one call; None: what the venue table says, which also caps it.
        max_retries: attempts in total, at least 1.
        retry_backoff_s: seconds before the second attempt; doubles with every further one.
    """

    base_url: str | None = None
    ccxt: Mapping[str, Any] = field(default_factory=dict)
    window_size: int | None = None
    max_retries: int = 3
    retry_backoff_s: float = 0.5

    def __post_init__(self) -> None:
        if self.window_size is not None and self.window_size < 1:
            raise ValueError(f"window_size must be at least 1, got {self.window_size}")
        if self.max_retries < 1:
            raise ValueError(f"max_retries counts all attempts and must be at least 1, got {self.max_retries}")
