"""Lets reflection find methods, fields and enum values, not only services, messages and enums.

The reflection service asks a descriptor pool for the file of a symbol. Python's pool knows the symbols at the top and
nested types, but no method: `grpcurl describe pkg.Service.Method` would answer "not found". Here a name that the pool
does not know is found if it is a member of what it belongs to. The pool knows what was imported: so this module imports
the one file of the contract that nothing here speaks by itself, the error reasons, whose names travel as text.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool

from markethistory.v1 import error_reason_pb2  # noqa: F401 -- see above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.descriptor import FileDescriptor


class MemberAwarePool:
    """The default pool, but for `FindFileContainingSymbol`."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 -- the pool's own name
        """The file that defines a symbol. Raises KeyError if none does."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            owner, _, member = symbol.rpartition(".")
            if member not in self._members(owner):
                raise
            return self._pool.FindFileContainingSymbol(owner)

    def _members(self, owner: str) -> set[str]:
        """Names of what a service, message or enum has; none if it is not there."""
        finders: tuple[Callable[[str], Iterable[str]], ...] = (
            lambda name: self._pool.FindServiceByName(name).methods_by_name,
            lambda name: self._pool.FindMessageTypeByName(name).fields_by_name,
            lambda name: self._pool.FindMessageTypeByName(name).oneofs_by_name,
            lambda name: self._pool.FindEnumTypeByName(name).values_by_name,
        )
        members: set[str] = set()
        for find in finders:
            with suppress(KeyError):
                members.update(find(owner))
        return members
