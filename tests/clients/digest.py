"""The digests by which clients of all languages are compared; README.md defines them.

Owns the byte form of a row, of a span or event, and of an error. Takes plain values, so that it shares nothing with
the way that they were read.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Value = int | float | str | None


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


_PACKERS: Final[dict[str, Callable[..., bytes]]] = {
    "timestamp[us, tz=UTC]": struct.Struct("<q").pack,
    "int32": struct.Struct("<i").pack,
    "double": struct.Struct("<d").pack,
    "string": _text,
}


def rows_digest(types: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """The digest of rows; `types` are Arrow's names of the columns' types, timestamps come as microseconds."""
    packers = [_PACKERS[name] for name in types]
    sha = hashlib.sha256()
    for row in rows:
        for pack, value in zip(packers, row, strict=True):
            sha.update(b"\0" if value is None else b"\1" + pack(value))
    return sha.hexdigest()


def lines_digest(lines: Iterable[tuple[int, int, str, int]]) -> str:
    """The digest of spans or events: start, end, state, row count of each."""
    text = "".join(f"{start} {end} {state} {rows}\n" for start, end, state, rows in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def error_digest(reason: str, metadata: Mapping[str, str], retry_after_ms: int | None) -> str:
    """The digest of an error that the server gave a reason for."""
    told = "".join(f"{key}={metadata[key]}\n" for key in sorted(metadata))
    pause = "-" if retry_after_ms is None else str(retry_after_ms)
    return hashlib.sha256(f"{reason}\n{told}retry_after_ms={pause}\n".encode()).hexdigest()
