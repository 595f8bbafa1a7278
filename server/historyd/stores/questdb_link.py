"""The PostgreSQL wire to QuestDB: a pool of connections, and the driver's errors in our words.

Promises: connections that broke are made anew by themselves; nothing waits for QuestDB without a bound; what leaves
here is StoreUnavailable, whose message and metadata have neither address nor password nor the driver's text.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from historyd.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from historyd.stores.questdb_options import QuestDbOptions

CONNECTIONS: Final = 8
"""Most connections of one server; QuestDB takes 64 in all unless told otherwise."""
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 30.0
_CLOSE_S: Final = 2.0
_IDLE_S: Final = 120.0
HALF_MADE: Final = "half-made table"
SUSPENDED: Final = "table suspended"
_BUSY: Final = "table busy"
_BUSY_S: Final = 20.0
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
_CAUSES: Final = (
    ("invalid username/password", "login refused"),
    ("suspended", SUSPENDED),
    ("name is reserved", HALF_MADE),
    ("no space", "disk full"),
    ("could not append", "disk full"),
    ("could not allocate", "disk full"),
    ("errno=28", "disk full"),
    ("[28]", "disk full"),
    (_BUSY, "table busy"),
    ("timeout", "too slow"),
)


class Link:
    """Statements to one QuestDB. Made by `open_link`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self, statement: str, *values: object) -> Sequence[Any]:
        """The rows of a query. Raises StoreUnavailable."""
        try:
            async with self._pool.acquire(timeout=_ANSWER_S) as connection:
                found: Sequence[Any] = await connection.fetch(statement, *values)
                return found
        except ERRORS as error:
            raise unavailable(error) from error

    async def execute(self, statement: str) -> None:
        """Runs a statement without values. Raises StoreUnavailable."""
        try:
            async with self._pool.acquire(timeout=_ANSWER_S) as connection:
                await connection.execute(statement)
        except ERRORS as error:
            raise unavailable(error) from error

    async def insert(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Inserts all rows or none; acknowledged, which for a table with WAL is not yet visible.

        Raises StoreUnavailable; then all of them or none may be there.
        """
        try:
            async with self._pool.acquire(timeout=_ANSWER_S) as connection:
                await connection.executemany(statement, rows)
        except ERRORS as error:
            raise unavailable(error) from error

    async def insert_in_turn(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Inserts into a table without WAL, which takes one writer at a time: waits for its turn.

        Raises StoreUnavailable, as `insert`, or if no turn came within 20 s.
        """
        pause = _FIRST_PAUSE_S
        deadline = asyncio.get_running_loop().time() + _BUSY_S
        while True:
            try:
                return await self.insert(statement, rows)
            except StoreUnavailable as error:
                late = asyncio.get_running_loop().time() > deadline
                if error.metadata.get("cause") != _BUSY or late:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)


ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What asyncpg raises when QuestDB is away, slow, or says no."""


@asynccontextmanager
async def open_link(options: QuestDbOptions) -> AsyncIterator[Link]:
    """A link for as long as the block lasts. Raises StoreUnavailable, naming the address, if nobody answers."""
    pool = asyncpg.create_pool(
        options.dsn,
        user=options.login[0],
        password=options.login[1],
        port=options.port,
        database=options.database,
        # Connections are made when they are needed: a floor would be restored in the background, with tracebacks.
        min_size=0,
        max_size=CONNECTIONS,
        max_inactive_connection_lifetime=_IDLE_S,
        timeout=_CONNECT_S,
        command_timeout=_ANSWER_S,
        reset=_leave_as_it_is,
    )
    async with pool:
        try:
            async with pool.acquire(timeout=_ANSWER_S) as connection:
                await connection.fetch("SELECT 1")
        except ERRORS as error:
            cause = unavailable(error).metadata["cause"]
            raise StoreUnavailable(f"QuestDB at {options.address} cannot be used: {cause}", cause=cause) from error
        try:
            yield Link(pool)
        finally:
            # A connection that is closed waits for QuestDB to close it too; broken off, the pool ends them itself.
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await pool.close()


async def _leave_as_it_is(connection: asyncpg.Connection) -> None:
    """Statements here change no session: nothing to reset between two users of a connection."""


def unavailable(error: BaseException) -> StoreUnavailable:
    """A driver's error in our words."""
    cause = _cause(error)
    return StoreUnavailable(f"the store did not answer as it should: {cause}", cause=cause)


def _cause(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "too slow"
    if isinstance(error, asyncpg.PostgresConnectionError | asyncpg.InterfaceError):
        return "connection lost"
    text = str(error).lower()
    known = next((cause for part, cause in _CAUSES if part in text), None)
    if known is not None:
        return known
    return "connection refused" if isinstance(error, OSError) else "failed"
