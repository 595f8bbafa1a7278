"""Places: where a store is, and the opening of it: a file, or tables in a QuestDB."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from historyd.errors import StoreUnavailable
from historyd.stores.embedded import open_embedded
from historyd.stores.questdb_options import QuestDbOptions

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from historyd.stores.base import Store

Place: TypeAlias = Path | QuestDbOptions
"""The file of an embedded store, or a QuestDB."""


def describe(place: Place) -> str:
    """The place in a line, without anything secret."""
    if isinstance(place, Path):
        return str(place)
    return f"QuestDB at {place.address}, tables {place.tables.bars} and {place.tables.trades}"


def open_place(place: Place) -> AbstractAsyncContextManager[Store]:
    """Opens the store there for writing. Raises StoreUnavailable."""
    if isinstance(place, Path):
        return open_embedded(place)
    try:
        from historyd.stores.questdb import open_questdb  # noqa: PLC0415 -- asyncpg is an extra
    except ImportError as error:
        raise StoreUnavailable(
            "QuestDB needs more than is installed: pip install 'historyd[questdb]'", cause="not installed"
        ) from error
    return open_questdb(place)
