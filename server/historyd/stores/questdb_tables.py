"""The tables of a QuestDB store: made if they are not there, and checked.

Promises: a table of another shape is refused, its difference named, before anything is written. Bulk reads work, also
in a QuestDB that was killed at its first one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from historyd.errors import StoreUnavailable
from historyd.stores.questdb_link import HALF_MADE
from historyd.stores.sql import load_statements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from historyd.stores.questdb_link import Link
    from historyd.stores.questdb_options import Tables

_LOG: Final = logging.getLogger(__name__)
_TEMPLATES: Final = load_statements("questdb.sql")
ANSWERS: Final = 32
"""How many answers a question for the last bars can name."""
_VALUES: Final = {"series": "SYMBOL", "answer": "LONG"}
_BARS: Final = {"ts": "TIMESTAMP", **dict.fromkeys(("open", "high", "low", "close", "volume"), "DOUBLE"), **_VALUES}
_TRADES: Final = {
    "ts": "TIMESTAMP",
    "seq": "INT",
    "id": "VARCHAR",
    "price": "DOUBLE",
    "amount": "DOUBLE",
    "side": "SYMBOL",
    **_VALUES,
}
_LONGS: Final = ("since", "until", "asked_at", "row_count", "answer", "set_aside", "page_bars", "anchor")
_JOURNAL: Final = {
    **dict.fromkeys(("kind", "series"), "SYMBOL"),
    **dict.fromkeys(_LONGS, "LONG"),
    "host": "VARCHAR",
    "sandbox": "BOOLEAN",
    "writer": "VARCHAR",
    "written_at": "TIMESTAMP",
}
_SET_ASIDE: Final = {**_VALUES, "at": "LONG", "ts": "LONG", "reason": "VARCHAR", "content": "VARCHAR"}
_SNAPSHOTS: Final = {
    "series": "SYMBOL",
    **dict.fromkeys(("snapshot", "position"), "LONG"),
    **dict.fromkeys(("mark", "content"), "VARCHAR"),
    **dict.fromkeys(("parts", "part"), "INT"),
}
_BARS_KEYS: Final = frozenset(("ts", "series", "answer"))
_SHAPES: Final = {
    "bars": (_BARS, _BARS_KEYS),
    "trades": (_TRADES, _BARS_KEYS | {"seq"}),
    "journal": (_JOURNAL, frozenset[str]()),
    "set_aside": (_SET_ASIDE, frozenset[str]()),
    "snapshots": (_SNAPSHOTS, frozenset[str]()),
}
"""The columns and their types, and what rows are unique by; none for tables without WAL."""


def statements(tables: Tables) -> Mapping[str, str]:
    """The statements of a store with these tables, by name."""
    names = {role: getattr(tables, role) for role in _SHAPES}
    names["these"] = " OR ".join(f"answer = ${number}" for number in range(5, 5 + ANSWERS))
    return {name: template.format(**names) for name, template in _TEMPLATES.items()}


async def prepare(link: Link, sql: Mapping[str, str], tables: Tables) -> None:
    """Makes the tables that are missing and checks all. Raises StoreUnavailable, naming the table."""
    for role, shape in _SHAPES.items():
        table = getattr(tables, role)
        await _make(link, sql[f"make_{role}"], table)
        await _check(link, sql, role, table, shape)
    await _open_the_way_for_exports(link, sql)
    await _warn_of_power_cuts(link, sql)


async def _make(link: Link, statement: str, table: str) -> None:
    try:
        await link.execute(statement)
    except StoreUnavailable as error:
        if error.metadata.get("cause") != HALF_MADE:
            raise
        raise StoreUnavailable(
            f"table {table} was left half made when QuestDB was killed, and holds nothing: stop QuestDB and remove the "
            f"folder {table} in its folder db, or name another table_prefix",
            cause=HALF_MADE,
        ) from error


async def _open_the_way_for_exports(link: Link, sql: Mapping[str, str]) -> None:
    """See `make_export_log` in questdb.sql. A QuestDB that does not let us may still have the table."""
    try:
        await link.execute(sql["make_export_log"])
    except StoreUnavailable as error:
        _LOG.warning(
            "QuestDB's table sys.copy_export_log was not made, bulk reads may fail: %s", error.metadata["cause"]
        )


async def _warn_of_power_cuts(link: Link, sql: Mapping[str, str]) -> None:
    try:
        ((mode,),) = await link.fetch(sql["commit_mode"])
    except (StoreUnavailable, ValueError):
        # Asked by two at once, QuestDB 9.3.4 fails now and then; it is only for the warning.
        mode = "unknown"
    if mode != "sync":
        _LOG.warning("QuestDB's cairo.commit.mode is %s: what a power cut loses was acknowledged; sync keeps it", mode)


async def _check(
    link: Link, sql: Mapping[str, str], role: str, table: str, shape: tuple[Mapping[str, str], frozenset[str]]
) -> None:
    wanted, keys = shape
    columns = await link.fetch(sql[f"shape_{role}"])
    found = {row["column"]: row["type"] for row in columns}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise _foreign(table, f"column {name} is {found.get(name, 'missing')}, wanted {wanted.get(name, 'none')}")
    if {row["column"] for row in columns if row["upsertKey"]} != keys:
        raise _foreign(table, f"its rows must be unique by {', '.join(sorted(keys)) or 'nothing'}")
    ((has_log,),) = await link.fetch(sql["form"], table)
    if has_log != bool(keys):
        raise _foreign(table, "it must have a WAL" if keys else "it must be without WAL")


def _foreign(table: str, difference: str) -> StoreUnavailable:
    """Said at the start, to whoever named the table: so it may be named."""
    return StoreUnavailable(f"table {table} is not one of historyd: {difference}", cause="foreign table")
