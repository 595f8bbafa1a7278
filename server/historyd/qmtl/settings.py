"""qmtl's provider dictionary -> the settings of this house.

Promises: an unknown key or a senseless value raises ValueError that names it. What this version does not have yet
(the cluster scope) is replaced by what it has, with a warning that says by what.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from historyd.config import EmbeddedConfig, ExchangeConfig, QuestDbConfig, StoreConfig
from historyd.config_errors import explain
from historyd.stores.places import describe
from markethistory.qmtl import SERIES_KEYS, check_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")

_EXCHANGE_KEYS: Final = frozenset(ExchangeConfig.model_fields)
_OTHER_KEYS: Final = frozenset({"questdb", "store"})
_QUESTDB_KEYS: Final = frozenset(QuestDbConfig.model_fields) | {"db"}


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Where rows are kept, and how the exchange is asked."""

    store: StoreConfig
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


def _store(config: Mapping[str, Any], stacklevel: int) -> StoreConfig:
    asked, questdb = config.get("store"), config.get("questdb")
    if asked is None and questdb is not None:
        return _validated(StoreConfig, {"questdb": _questdb(questdb)})
    store = _validated(StoreConfig, asked if asked is not None else {"embedded": {"path": default_store()}})
    if questdb is not None:
        check_keys(questdb, _QUESTDB_KEYS)
        kept = describe(store.place)
        warnings.warn(f"both store and questdb are given: rows are kept in {kept}", stacklevel=stacklevel + 1)
    if store.questdb is not None:
        return store
    return StoreConfig(embedded=EmbeddedConfig(path=store.embedded.path.expanduser().resolve()))


def _questdb(given: Mapping[str, Any]) -> dict[str, Any]:
    """The specification's keys as the server's configuration has them."""
    check_keys(given, _QUESTDB_KEYS)
    named = {"database" if key == "db" else key: value for key, value in given.items() if value is not None}
    if "table" in named:
        named.pop("table_prefix", None)
    return named


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
