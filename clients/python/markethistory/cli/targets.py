"""Where `-o` writes to: one file for each series, one for all of them, or standard output."""

from __future__ import annotations

import re
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from markethistory.cli.running import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES: Final = (".parquet", ".csv", ".arrow")
STDOUT: Final = "-"
_PLACES: Final = re.compile(r"\{(?:series)?\}")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")


def check_output(output: str | None) -> str | None:
    """Refuses a format that we cannot write, before anything is asked."""
    if output is not None and output != STDOUT and Path(output).suffix not in SUFFIXES:
        raise typer.BadParameter(f"must end in {', '.join(SUFFIXES)}, or be '-'")
    return output


def is_per_series(output: str) -> bool:
    """Whether it has a place for the series, `{series}` or `{}`."""
    return _PLACES.search(output) is not None


def file_of(output: str) -> Path:
    """The one file that is meant. Raises WrongUsage if there is no such directory."""
    return _in_a_directory(Path(output))


def files_of(series: Sequence[str], output: str) -> dict[str, Path]:
    """The file of each series, all different. Raises WrongUsage if there is no such directory."""
    names = safe_names(series)
    return {one: _in_a_directory(Path(_PLACES.sub(names[one], output))) for one in series}


def safe_names(series: Sequence[str]) -> dict[str, str]:
    """A name for each series that any file system takes.

    Where two would be the same, be it only where case does not count (`1m`, `1M`), both end in a digest of their id.
    """
    plain = {one: _UNFIT.sub("_", one) for one in series}
    taken = Counter(name.casefold() for name in plain.values())
    return {one: name if taken[name.casefold()] == 1 else f"{name}-{_digest(one)}" for one, name in plain.items()}


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()


def _in_a_directory(file: Path) -> Path:
    if not file.parent.is_dir():
        raise WrongUsage(f"{file}: there is no directory {file.parent}")
    return file
