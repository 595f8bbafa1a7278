"""SQLite for the embedded store: opening a file, its schema version, its one writer, its errors in our words.

Promises: a file that is not ours, is newer than this code, or has a writer already is refused before anything in it
is touched; every commit is on the disk when it returns (WAL, `synchronous=FULL`).
Never does: know what the tables mean.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from historyd.errors import StoreUnavailable
from historyd.stores.sql import load_statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SQL: Final = load_statements("embedded.sql")
"""The statements of the embedded store, by name."""
MIGRATIONS: Final[Sequence[str]] = [SQL["schema_1"], SQL["schema_2"]]
"""Script `n` (from 0) takes a file from version `n` to `n + 1`."""
_APPLICATION_ID: Final = 0x6D6B6873
"""`mkhs` in the file's header: this file is a store of ours."""
_BUSY_S: Final = 5.0
_LOG_BYTES: Final = 32 * 1024 * 1024
_LOG_WAIT_MS: Final = 500
"""Readers of this process are done in a few; one in another process may hold the log for longer."""
_MMAP_BYTES: Final = 0x7FFF0000
"""The most that SQLite maps."""
_CAUSES: Final = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_IOERR: "input or output failed",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "damaged file",
    sqlite3.SQLITE_NOTADB: "not a store",
    sqlite3.SQLITE_NOMEM: "out of memory",
}


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 if the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def unavailable(error: sqlite3.Error) -> StoreUnavailable:
    """The error in our words, `cause` in its metadata."""
    cause = _CAUSES.get(primary_code(error), "failed")
    return StoreUnavailable(f"the store cannot be used: {cause}", cause=cause)


@contextmanager
def transaction(con: sqlite3.Connection, mode: str) -> Iterator[None]:
    """All or nothing. `mode` is IMMEDIATE to write, DEFERRED for one snapshot to read from."""
    con.execute(f"BEGIN {mode}")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        # Some failures (a full disk among them) have rolled back already.
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Holds the file's writer lock; raises StoreUnavailable if another process or store has it.

    The lock is on a file of its own: closing any handle of the store's file would drop SQLite's locks on it.
    """
    try:
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as cause:
        raise StoreUnavailable(f"{path.name} cannot be opened for writing", cause="cannot be opened") from cause
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as cause:
            raise StoreUnavailable(f"{path.name} is in use by another writer", cause="in use") from cause
        yield
    finally:
        os.close(handle)


def prepare(path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Creates the file or brings its schema up to date. Raises StoreUnavailable if it is not ours or is newer."""
    con = _open(path, "rwc")
    try:
        version = _version(con, path)
        if version > len(migrations):
            message = f"{path.name} was written by a newer historyd (version {version}, known: {len(migrations)})"
            raise StoreUnavailable(message, cause="newer version")
        if version == 0:
            # Both must come before the first table; space freed by `forget` can then be given back.
            con.execute("PRAGMA auto_vacuum = INCREMENTAL")
            con.execute("PRAGMA journal_mode = WAL")
        if version < len(migrations):
            _migrate(con, version, migrations)
    except sqlite3.Error as error:
        raise _refusal(path, error) from error
    finally:
        con.close()


def connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """A connection to a prepared file, usable from any one thread at a time. Raises StoreUnavailable."""
    con = _open(path, "ro" if readonly else "rw")
    try:
        con.execute("PRAGMA synchronous = FULL")
        con.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
        con.execute(f"PRAGMA query_only = {int(readonly)}")
        con.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    except sqlite3.Error as error:
        con.close()
        raise _refusal(path, error) from error
    return con


def check(con: sqlite3.Connection, path: Path) -> None:
    """Raises StoreUnavailable if the file is not a store that this code can read."""
    try:
        version = _version(con, path)
    except sqlite3.Error as error:
        raise _refusal(path, error) from error
    if version != len(MIGRATIONS):
        mend = "; `historyd serve` on it brings it up to date" if version < len(MIGRATIONS) else ""
        message = f"{path.name} has version {version}, this historyd reads {len(MIGRATIONS)}{mend}"
        raise StoreUnavailable(message, cause="other version")


def give_back(con: sqlite3.Connection) -> None:
    """Gives free pages back to the file system, as far as no reader is in the way."""
    # Each step of it frees one page; `execute` would take the first only.
    con.executescript("PRAGMA incremental_vacuum")
    con.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _open(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: sqlite3.Error) -> StoreUnavailable:
    """Said at the start, to whoever named the file: so it may be named."""
    cause = _CAUSES.get(primary_code(error), "failed")
    return StoreUnavailable(f"{path.name} cannot be used as a store: {cause}", cause=cause)


def _version(con: sqlite3.Connection, path: Path) -> int:
    """The schema version, 0 for a new file. Raises StoreUnavailable if the file is somebody else's."""
    (application,) = con.execute("PRAGMA application_id").fetchone()
    (version,) = con.execute("PRAGMA user_version").fetchone()
    (objects,) = con.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == _APPLICATION_ID:
        return int(version)
    if application == 0 and version == 0 and objects == 0:
        return 0
    raise StoreUnavailable(f"{path.name} is a database, but not a store of historyd", cause="not a store")


def _migrate(con: sqlite3.Connection, version: int, migrations: Sequence[str]) -> None:
    """All steps in one transaction: a crash leaves the old version whole."""
    with transaction(con, "IMMEDIATE"):
        for script in migrations[version:]:
            for statement in _statements(script):
                con.execute(statement)
        if version == 0:
            con.execute(SQL["put_uuid"], {"uuid": str(uuid4())})
        con.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        con.execute(f"PRAGMA user_version = {len(migrations)}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit before the first one."""
    pending = ""
    for piece in script.removesuffix(";").split(";"):
        pending += piece + ";"
        # A semicolon in a comment or a text ends nothing.
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


class LogBound:
    """Keeps the write-ahead log short where readers always overlap, so that SQLite never gets to start it over.

    Called by the writer after its commits; what was committed stays so whatever happens here.
    """

    def __init__(self, path: Path) -> None:
        self._log = path.with_name(path.name + "-wal")
        self._act_at = _LOG_BYTES

    def check(self, con: sqlite3.Connection) -> None:
        """Empties a log that has grown past its bound; if a reader holds it, not again until it has grown as much."""
        try:
            size = self._log.stat().st_size
        except OSError:
            return
        if size < self._act_at:
            return
        try:
            con.execute(f"PRAGMA busy_timeout = {_LOG_WAIT_MS}")
            (busy, *_) = con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            # A full or failing disk: the next commit will say so to somebody who can act.
            busy = 1
        con.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")
        self._act_at = size + _LOG_BYTES if busy else _LOG_BYTES
