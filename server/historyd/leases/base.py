"""The protocol of leases: which of the servers that share a store fetches a page.

Leases save calls; nothing that is stored depends on them: facts are true whoever commits them, and committing one
twice changes nothing. So where leases cannot be had, servers go on without.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from historyd.errors import HistoryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager


class LeaseLost(HistoryError):
    """The lease ran out before the page was asked for: it is another's to do, or was done. Callers never see it."""


class Claimant(Protocol):
    """Who wants to do a page, for one or many who wait for it."""

    @property
    def urgent(self) -> bool:
        """Whether one of those waits for just this page."""

    def promote(self) -> None:
        """Somebody at another server waits for just this page: it is urgent from now on."""

    def lease(self, is_held: Callable[[], bool]) -> None:
        """From now on calls for the page may only be sent while `is_held`."""


class Leases(Protocol):
    """Who fetches what, among the servers that share a store."""

    def page(
        self, name: str, claimant: Claimant, is_done: Callable[[], Awaitable[bool]]
    ) -> AbstractAsyncContextManager[bool]:
        """Entered once the page is done by somebody (False), or is this claimant's to do (True).

        `is_done` looks into the store, which alone knows. What the page's block commits must be visible to others
        when the block is left. The block may end with LeaseLost; the page is to be entered again then.
        """


class Alone:
    """For a server that shares its store with none: the first to ask does it."""

    @asynccontextmanager
    async def page(
        self,
        name: str,  # noqa: ARG002 -- the protocol's
        claimant: Claimant,  # noqa: ARG002
        is_done: Callable[[], Awaitable[bool]],
    ) -> AsyncIterator[bool]:
        """Entered at once."""
        yield not await is_done()
