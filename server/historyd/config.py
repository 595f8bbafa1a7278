"""The configuration: one YAML file or none, and `HISTORYD_...` in the environment, which wins.

`${NAME}` inside a string of the file is replaced by that variable of the environment. Nested keys are joined with
`__` in the environment: HISTORYD_STORE__EMBEDDED__PATH, HISTORYD_EXCHANGES__BINANCE__MAX_RETRIES; what is a mapping
of CCXT's own is given there as JSON.
Promises: what is unknown or wrong raises ConfigError, which names the key and, where one is near, the valid one. A
value is never part of a message, as it may be a secret.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from urllib.parse import quote, urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from historyd.config_errors import ConfigError, explain, no_such_key
from historyd.observability.options import AlertOptions
from historyd.ratelimit.options import RateLimiterOptions
from historyd.stores.questdb_options import PG_PORT, QuestDbOptions, Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_settings import PydanticBaseSettingsSource

ENV_PREFIX: Final = "HISTORYD_"
CONFIG_VARIABLE: Final = "HISTORYD_CONFIG"
"""Names the file, for those who cannot give a command line; the only variable that is no key."""
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_EXCHANGE: Final = re.compile(r"[a-z0-9_]{1,40}")
_LEAST_TOKEN: Final = 16
_VERBATIM: Final = "ccxt"
"""Under this key an empty value is a value."""


def check_listen(text: str) -> str:
    """An address `HOST:PORT`, port 0 for a free one. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:50051; port 0 takes a free one")
    return text


def _check_base_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.netloc or url.path not in {"", "/"} or url.query:
        raise ValueError("must be a scheme and a host, for example http://127.0.0.1:9000, as paths are CCXT's")
    return text.rstrip("/")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_token(text: str) -> str:
    if len(text) < _LEAST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be at least {_LEAST_TOKEN} printable ASCII characters, without spaces")
    return text


class TlsConfig(_Section):
    """Files in PEM: the server's certificate, with what signed it, and its key; `client_ca`: clients show one too.

    They are read anew when they change.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


class EmbeddedConfig(_Section):
    """The embedded store: one file."""

    path: Path = Path("./markethistory.db")


class QuestDbConfig(_Section):
    """Tables in a QuestDB: `dsn`, or its parts; `table_prefix`, or `table` for the bars and, after it, the others."""

    dsn: str | None = Field(default=None, repr=False)
    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65_535)] = PG_PORT
    database: str = "qdb"
    user: str = "admin"
    password: str = Field(default="quest", repr=False)
    http: str | None = Field(default=None, repr=False)
    table: str | None = None
    table_prefix: str | None = None

    @model_validator(mode="after")
    def _options_are_right(self) -> Self:
        given = self.model_fields_set
        parts = sorted(given & {"host", "port", "database", "user", "password"})
        if "dsn" in given and parts:
            raise ValueError(f"give dsn or its parts, not both: there is {', '.join(parts)} too")
        if self.table is not None and self.table_prefix is not None:
            raise ValueError("give table or table_prefix, not both")
        _ = self.options
        return self

    @property
    def options(self) -> QuestDbOptions:
        """The same for the store."""
        tables = Tables.of_prefix(self.table_prefix or "markethistory")
        if self.table is not None:
            tables = Tables.of_table(self.table)
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        made = f"postgresql://{login}@{host}:{self.port}/{quote(self.database, safe='')}"
        return QuestDbOptions(self.dsn or made, self.http, tables)


class StoreConfig(_Section):
    """Where rows and coverage live: `embedded` or `questdb`."""

    embedded: EmbeddedConfig = EmbeddedConfig()
    questdb: QuestDbConfig | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.questdb is not None and "embedded" in self.model_fields_set:
            raise ValueError("there is one store: give embedded or questdb, not both")
        return self

    @property
    def place(self) -> Path | QuestDbOptions:
        """Where the store is."""
        return self.embedded.path if self.questdb is None else self.questdb.options


class ConnectorsConfig(_Section):
    """Where shared services are."""

    ccxt_rate_limiter_redis: str | None = Field(default=None, repr=False)


class ExchangeConfig(_Section):
    """One exchange; see sources/options.py."""

    base_url: Annotated[str, AfterValidator(_check_base_url)] | None = None
    ccxt: dict[str, Any] = Field(default_factory=dict, repr=False)
    rate_limiter: RateLimiterOptions = RateLimiterOptions()
    window_size: Annotated[int, Field(ge=1)] | None = None
    max_retries: Annotated[int, Field(ge=1)] = 3
    retry_backoff_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5


class Config(BaseSettings):
    """All that can be set; every key may be left out.

    Attributes:
        listen: address of the server, port 0 for a free one.
        drain_s: seconds that calls under way may go on after SIGTERM.
        tls: speak TLS; default plain.
        tokens: what calls must carry one of; none: every call is answered.
        log_level: least level that is logged; calls are logged at `info`.
        store: where rows and coverage live.
        connectors: where shared services are.
        exchanges: settings by CCXT id; an exchange not named has the defaults.
        alerts: who is told of what goes wrong.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=False
    )

    listen: Annotated[str, AfterValidator(check_listen)] = "127.0.0.1:50051"
    drain_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    tls: TlsConfig | None = None
    tokens: Annotated[tuple[Annotated[str, AfterValidator(_check_token)], ...], Field(repr=False)] = ()
    store: StoreConfig = StoreConfig()
    connectors: ConnectorsConfig = ConnectorsConfig()
    exchanges: dict[str, ExchangeConfig] = Field(default_factory=dict)
    alerts: AlertOptions = AlertOptions()

    @field_validator("exchanges")
    @classmethod
    def _lower_case_ids(cls, exchanges: dict[str, ExchangeConfig]) -> dict[str, ExchangeConfig]:
        for name in exchanges:
            if _EXCHANGE.fullmatch(name) is None:
                raise ValueError(f"{name!r} is no CCXT id: they are in lower case, such as {name.lower()!r}")
        return exchanges

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- this and the two below: the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content is what the class is called with."""
        return env_settings, init_settings


def load_config(path: Path | None = None) -> Config:
    """The configuration of a file (None: of the environment alone). Raises ConfigError."""
    _check_variables(os.environ)
    content = _read(path, os.environ) if path is not None else {}
    try:
        return Config(**content)
    except ValidationError as error:
        raise ConfigError(explain(error, Config)) from None
    except SettingsError as error:
        raise ConfigError([f"{ENV_PREFIX}...: {error}: must be JSON"]) from None


def with_listen(config: Config, listen: str) -> Config:
    """The same configuration at another address. Raises ConfigError."""
    try:
        return config.model_copy(update={"listen": check_listen(listen)})
    except ValueError as error:
        raise ConfigError([f"listen: {error}"]) from None


def _check_variables(environ: Mapping[str, str]) -> None:
    """Refuses `HISTORYD_...` variables that name no key, which would be ignored otherwise."""
    for name in environ:
        if name.startswith(ENV_PREFIX) and name != CONFIG_VARIABLE:
            key = name.removeprefix(ENV_PREFIX).partition("__")[0].lower()
            if key not in Config.model_fields:
                raise ConfigError([f"{name}: {no_such_key(key, Config.model_fields)}"])


def _read(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError([f"{path}: is not YAML{where}"]) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError([f"{path}: must be a mapping of keys to values"])
    filled = _fill(_without_empty(content), "", lambda name, key: _variable(environ, name, key))
    assert isinstance(filled, dict)
    return filled


def _without_empty(content: dict[str, Any]) -> dict[str, Any]:
    """Drops keys without a value (all under them may be commented out), but for what is CCXT's."""
    return {
        key: _without_empty(value) if isinstance(value, dict) and key != _VERBATIM else value
        for key, value in content.items()
        if value is not None
    }


def _fill(value: Any, key: str, variable: Callable[[str, str], str]) -> Any:
    """Replaces `${NAME}` in all strings, `key` being where the value stands."""
    if isinstance(value, dict):
        return {name: _fill(inner, f"{key}.{name}".lstrip("."), variable) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, key, variable) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: variable(match[1], key), value)
    return value


def _variable(environ: Mapping[str, str], name: str, key: str) -> str:
    if name not in environ:
        raise ConfigError([f"{key}: the environment has no variable {name}"])
    return environ[name]
