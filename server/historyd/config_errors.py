"""Says what is wrong with a configuration, one line a fault: the key, what is wrong, and the valid key that is nearest.

Never does: repeat a value, as it may be a secret.
"""

from __future__ import annotations

from difflib import get_close_matches
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class ConfigError(Exception):
    """The configuration is wrong; `faults` has a line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """A line for each fault that pydantic found in a configuration of the class `root`."""
    return [f"{'.'.join(map(str, fault['loc']))}: {_what(fault, root)}" for fault in error.errors()]


def no_such_key(key: str, valid: Iterable[str]) -> str:
    """Says that there is no such key, and which ones there are."""
    names = sorted(valid)
    return f"there is no such key{_nearest(key, names)}; there are {', '.join(names)}"


def _what(fault: ErrorDetails, root: type[BaseModel]) -> str:
    *owner, key = fault["loc"] or ("",)
    kind = _kind_at(root, owner)
    if fault["type"] == "extra_forbidden" and _is_model(kind):
        return no_such_key(str(key), kind.model_fields)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        choices = [str(choice) for choice in get_args(_kind_at(root, fault["loc"]))]
        message = f"must be one of {', '.join(choices)}{_nearest(fault['input'], choices)}"
    return message


def _nearest(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name.lower(), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _kind_at(root: type[BaseModel], loc: Sequence[str | int]) -> Any:
    """The type of what stands at a place of the configuration."""
    kind: Any = root
    for part in loc:
        kind = _plain(kind)
        if _is_model(kind):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field is not None else None
        else:  # a mapping or a sequence: the type of what it holds comes last, or before an ellipsis
            kind = next((inner for inner in reversed(get_args(kind)) if inner is not ...), None)
    return _plain(kind)


def _plain(kind: Any) -> Any:
    """The type without `| None`."""
    if get_origin(kind) in {Union, UnionType}:
        return next(inner for inner in get_args(kind) if inner is not type(None))
    return kind


def _is_model(kind: Any) -> bool:
    return get_origin(kind) is not Literal and isinstance(kind, type) and issubclass(kind, BaseModel)
