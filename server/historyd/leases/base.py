"""The protocol of leases: which of the servers that share a store fetches a page.

Leases save calls; nothing that is stored depends on them: facts are true whoever commits them, and committing one
twice changes nothing. So where leases cannot be had, servers go on without.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager


class Leases(Protocol):
    """Who fetches what, among the servers that share a store."""

    def page(self, name: str, is_done: Callable[[], Awaitable[bool]]) -> AbstractAsyncContextManager[bool]:
        """Entered once the page is done by somebody (False), or is this caller's to do (True).

        `is_done` looks into the store, which alone knows. What the page's block commits must be visible to others
        when the block is left.
        """


class Alone:
    """For a server that shares its store with none: the first to ask does it."""

    @asynccontextmanager
    async def page(self, name: str, is_done: Callable[[], Awaitable[bool]]) -> AsyncIterator[bool]:  # noqa: ARG002 -- the protocol's
        """Entered at once."""
        yield not await is_done()
