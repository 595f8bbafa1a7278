"""Where `-o` writes to: one file for each series, or standard output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from markethistory.cli.running import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES: Final = (".parquet", ".csv", ".arrow")
STDOUT: Final = "-"
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]+")


def check_output(output: str | None) -> str | None:
    """Refuses a format that we cannot write, before anything is asked."""
    if output is not None and output != STDOUT and Path(output).suffix not in SUFFIXES:
        raise typer.BadParameter(f"must end in {', '.join(SUFFIXES)}, or be '-'")
    return output


def files_of(series: Sequence[str], output: str) -> dict[str, Path]:
    """The file of each series. Raises WrongUsage if two series would share one, or there is no such directory."""
    files = {name: Path(output.replace("{}", _UNFIT.sub("_", name))) for name in series}
    if len(set(files.values())) < len(files):
        raise WrongUsage("several series need a file each: put {} into -o, it stands for the series")
    for file in files.values():
        if not file.parent.is_dir():
            raise WrongUsage(f"{file}: there is no directory {file.parent}")
    return files
