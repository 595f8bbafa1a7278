"""What a venue's replies say of the weight that was used, by all who share its budget with us."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_INTERVAL: Final = re.compile(r"(\d+)([smhd])")


def used_weights(headers: Mapping[str, str], prefix: str) -> Iterator[tuple[int, float]]:
    """Interval in milliseconds and the weight used in it, of each header `<prefix><number><s|m|h|d>`: `...-1m: 240`.

    `headers` by lower-case name. An empty prefix stands for a venue that says nothing. What cannot be read is passed
    over: it only ever makes us more careful.
    """
    if not prefix:
        return
    for name, value in headers.items():
        interval = _INTERVAL.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if interval is not None and value.isascii() and value.isdigit():
            yield int(interval[1]) * _UNIT_MS[interval[2]], float(value)
