"""The series that were typed: ids as they are, patterns by what they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markethistory.cli.running import WrongUsage, run
from markethistory.cli.servers import open_aio_client
from markethistory.many import is_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence


def asks_for_several(given: Sequence[str]) -> bool:
    """Whether what was typed may stand for several series."""
    return len(set(given)) > 1 or any(map(is_pattern, given))


def markets_of(server: str, given: Sequence[str]) -> list[str]:
    """The ids, those of a pattern's active markets for it. Without a pattern nobody is asked."""
    if not any(map(is_pattern, given)):
        return list(dict.fromkeys(given))

    async def expand() -> list[str]:
        async with open_aio_client(server) as history:
            return await history.expand(given)

    try:
        return run(expand())
    except ValueError as error:
        raise WrongUsage(str(error)) from None


def stored_of(server: str, given: Sequence[str]) -> list[str]:
    """The ids, those of the stored series that match for a pattern. Without a pattern nobody is asked."""
    if not any(map(is_pattern, given)):
        return list(dict.fromkeys(given))

    async def expand() -> list[str]:
        names: list[str] = []
        async with open_aio_client(server) as history:
            for name in given:
                found = [one.series for one in await history.series(name)] if is_pattern(name) else [name]
                if not found:
                    raise WrongUsage(f"{name}: no series is stored that matches")
                names += found
        return list(dict.fromkeys(names))

    return run(expand())
