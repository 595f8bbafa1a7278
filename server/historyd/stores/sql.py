"""Named SQL statements, kept in a .sql file beside the store that speaks them.

A statement follows a line `-- name: the_name` and ends at the next such line; other comments stay in it.
Never does: fill in values; that is the driver's work.
"""

from __future__ import annotations

import re
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_LINE: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_statements(file: str) -> Mapping[str, str]:
    """The statements of a file of this package, by name. Raises ValueError if a name stands twice."""
    return parse_statements((resources.files(__package__) / file).read_text("utf-8"))


def parse_statements(text: str) -> Mapping[str, str]:
    """The statements of a text, by name. Raises ValueError if a name stands twice."""
    _preface, *parts = _NAME_LINE.split(text)
    statements: dict[str, str] = {}
    for name, statement in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"two statements are named {name}")
        statements[name] = statement.strip()
    return MappingProxyType(statements)
