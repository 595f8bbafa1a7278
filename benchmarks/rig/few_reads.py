"""The small read that several benchmarks measure: the last two hours of 1m bars, of a series of one year."""

from __future__ import annotations

from typing import Final

YEAR: Final = 525_600
"""Bars of 1m in 365 days."""
ROWS: Final = 120
