"""Values as JSON: one document a line on standard output, times in ISO 8601, durations in seconds."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer

from markethistory.values import iso

if TYPE_CHECKING:
    from markethistory.errors import MarketHistoryError


def say(**document: Any) -> None:
    """Writes one document as a line."""
    typer.echo(json.dumps(plain(document)))


def say_error(series: str, error: MarketHistoryError) -> None:
    """Writes what went wrong with a series as a document."""
    code = error.code.name if error.code is not None else None
    told = {"code": code, "reason": error.reason, "message": str(error), "metadata": error.metadata}
    say(series=series, error=told)


def plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
