"""Paired rounds: in each round every contender runs once, in a new random order, so that noise meets all alike."""

from __future__ import annotations

import random
import statistics
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Measured = TypeVar("Measured")


def say(text: str) -> None:
    """Tells the person who waits how far it is, on stderr."""
    print(text, file=sys.stderr, flush=True)


def paired(title: str, rounds: int, contenders: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """What each contender gave, by round."""
    order = list(contenders)
    shuffle = random.Random(11).shuffle
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        say(f"{title}: round {number} of {rounds}")
        shuffle(order)
        for name in order:
            found[name].append(contenders[name]())
    return found


def times_faster(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """How many times the speed of the reference: the median over rounds of its time by ours."""
    pairs = zip(seconds, reference, strict=True)
    return round(statistics.median(theirs / ours for ours, theirs in pairs), 3)


def median(values: Sequence[float]) -> float:
    """The middle value, to four digits or so: what is behind is noise."""
    return float(f"{statistics.median(values):.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which so many of all lie (0.99: the p99), to four digits."""
    ordered = sorted(values)
    return float(f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.4g}")


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    scaled = [value * 1000 for value in seconds]
    return {"p50_ms": percentile(scaled, 0.5), "p99_ms": percentile(scaled, 0.99)}
