"""Where the QuestDB store is, and what its tables are called. Plain values; imports no driver.

Promises: a name that gets into a statement is made of letters, digits and underscores; what is wrong raises
ValueError, whose message never has a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

PG_PORT: Final = 8812
HTTP_PORT: Final = 9000
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")


@dataclass(frozen=True, slots=True)
class Tables:
    """The names of a store's tables."""

    bars: str
    trades: str
    journal: str
    set_aside: str
    snapshots: str

    @classmethod
    def of_prefix(cls, prefix: str) -> Tables:
        """`crypto` gives `crypto_ohlcv`, `crypto_trades` and so on. Raises ValueError."""
        _check_name("table_prefix", prefix)
        return cls(f"{prefix}_ohlcv", *_beside(prefix))

    @classmethod
    def of_table(cls, table: str) -> Tables:
        """Bars in `table`, the others named after it. Raises ValueError."""
        _check_name("table", table)
        return cls(table, *_beside(table))


@dataclass(frozen=True, slots=True)
class QuestDbOptions:
    """One store in one QuestDB.

    Attributes:
        dsn: `postgresql://user:password@host:port/database`; what is left out is as
            QuestDB has it: port 8812, database `qdb`, user `admin`, password `quest`.
        http: where bulk reads go, `http://host:9000` or `https://...`; None: port 9000 of the dsn's host. A user and
            password in it are used, else those of the dsn.
        tables: what its tables are called.
    """

    dsn: str = field(repr=False)
    http: str | None = field(default=None, repr=False)
    tables: Tables = field(default_factory=lambda: Tables.of_prefix("markethistory"))

    def __post_init__(self) -> None:
        if not _is_address(self.dsn, {"postgresql", "postgres"}):
            raise ValueError("dsn must be like postgresql://user:password@host:8812/qdb, its parts percent-encoded")
        if self.http is not None and (not _is_address(self.http, {"http", "https"}) or urlsplit(self.http).path > "/"):
            raise ValueError("http must be a scheme and a host, for example http://localhost:9000")

    @property
    def host(self) -> str:
        """Of the dsn."""
        return urlsplit(self.dsn).hostname or ""

    @property
    def port(self) -> int:
        """Of the dsn, 8812 if it has none."""
        return urlsplit(self.dsn).port or PG_PORT

    @property
    def database(self) -> str:
        """Of the dsn, `qdb` if it has none."""
        return urlsplit(self.dsn).path.strip("/") or "qdb"

    @property
    def address(self) -> str:
        """Host and port, without anything secret."""
        return f"{self.host}:{self.port}"

    @property
    def http_url(self) -> str:
        """Scheme, host and port of bulk reads, without anything secret."""
        if self.http is None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"http://{host}:{HTTP_PORT}"
        url = urlsplit(self.http)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password of the dsn, QuestDB's own defaults if it has none."""
        return _login_of(self.dsn) or ("admin", "quest")

    @property
    def http_login(self) -> tuple[str, str]:
        """User and password of bulk reads."""
        return _login_of(self.http or "") or self.login


def _login_of(address: str) -> tuple[str, str] | None:
    url = urlsplit(address)
    return None if url.username is None else (unquote(url.username), unquote(url.password or ""))


def _is_address(text: str, schemes: set[str]) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _beside(name: str) -> tuple[str, str, str, str]:
    """All tables but the one of bars."""
    return f"{name}_trades", f"{name}_journal", f"{name}_set_aside", f"{name}_snapshots"


def _check_name(key: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{key} must be a letter and up to 59 letters, digits and underscores")
