"""qmtl's provider dictionary -> the settings of this house.

Promises: an unknown key or a senseless value raises ValueError that names it. What this version does not have yet
(QuestDB, the cluster scope) is replaced by what it has, with a warning that says by what.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from historyd.config import ExchangeConfig, StoreConfig
from historyd.config_errors import explain
from markethistory.qmtl import SERIES_KEYS, check_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")

_EXCHANGE_KEYS: Final = frozenset(ExchangeConfig.model_fields)
_OTHER_KEYS: Final = frozenset({"questdb", "store"})
_QUESTDB_KEYS: Final = frozenset({"dsn", "host", "port", "database", "db", "table", "table_prefix"})


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Where rows are kept, and how the exchange is asked."""

    store: Path
    exchange: ExchangeConfig


def read_settings(config: Mapping[str, Any], *, stacklevel: int) -> ProviderSettings:
    """The settings of a provider dictionary; `stacklevel` is that of the warnings. Raises ValueError.

    Keys beside those of qmtl: `store` (`{"embedded": {"path": ...}}`), `base_url` and `ccxt` as in the server's
    configuration of an exchange.
    """
    check_keys(config, SERIES_KEYS | _EXCHANGE_KEYS | _OTHER_KEYS)
    store = _store(config, stacklevel + 1)
    given = {key: config[key] for key in _EXCHANGE_KEYS if config.get(key) is not None}
    limiter = dict(given.get("rate_limiter") or {})
    if limiter.get("scope") == "cluster":
        warnings.warn(
            "rate_limiter.scope 'cluster' is not available in this version: the quota is kept for this process alone",
            stacklevel=stacklevel + 1,
        )
        limiter["scope"] = "process"
    return ProviderSettings(store, _validated(ExchangeConfig, {**given, "rate_limiter": limiter}))


def _store(config: Mapping[str, Any], stacklevel: int) -> Path:
    asked = config.get("store")
    store = _validated(StoreConfig, asked).embedded.path if asked is not None else default_store()
    if config.get("questdb") is not None:
        check_keys(config["questdb"], _QUESTDB_KEYS)
        warnings.warn(f"QuestDB is not available in this version: rows are kept in {store}", stacklevel=stacklevel + 1)
    return store.expanduser().resolve()


def default_store() -> Path:
    """The file in the user's data directory."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "markethistory" / "qmtl.db"


def _validated(kind: type[T], values: Any) -> T:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, kind))) from None
