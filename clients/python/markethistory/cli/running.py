"""How a command runs and ends: the event loop, Ctrl-C, exit codes, faults in one line."""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import typer

from markethistory.errors import IncompleteHistoryWarning, MarketHistoryError, RateLimited, TimedOut, Unavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

T = TypeVar("T")


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INCOMPLETE = 3
    AWAY = 4
    DECLINED = 5
    INTERRUPTED = 130


EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but part of the range cannot be had (or, with "
    "--require-complete, not done); 4 the server or the exchange is away, try later; 5 not confirmed; 130 interrupted."
)


class WrongUsage(Exception):
    """The command line cannot be right; the message says why."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs to the end; Ctrl-C cancels all calls first, so that the server stops working for us."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IncompleteHistoryWarning)  # the commands tell it in their own way
            return asyncio.run(work)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None  # the first task that failed; the others were cancelled


@contextmanager
def faults_told(server: str) -> Iterator[None]:
    """Ends the process with one line for each fault."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        _exit(ExitCode.INTERRUPTED, "interrupted; what was fetched is kept")
    except WrongUsage as error:
        _exit(ExitCode.USAGE, str(error))
    except MarketHistoryError as error:
        _exit(exit_code(error), advice(error, server))
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.OK) from None
    except OSError as error:
        _exit(ExitCode.FAILED, f"{error.filename or 'file'}: {error.strerror}")


def exit_code(error: MarketHistoryError) -> ExitCode:
    """The exit code of an error."""
    if error.reason == "INCOMPLETE":
        return ExitCode.INCOMPLETE
    return ExitCode.AWAY if isinstance(error, (Unavailable, RateLimited, TimedOut)) else ExitCode.FAILED


def advice(error: MarketHistoryError, server: str) -> str:
    """The error in one line, with what to do if we know it."""
    if isinstance(error, Unavailable) and not error.reason:
        return f"no answer from {server}: start one with `historyd serve`, or say where it is with --server"
    again = f"; try again in {error.retry_after_s:.0f} s" if error.retry_after_s else ""
    return " ".join(str(error).split()) + again


def complain(line: str) -> None:
    """Writes one line to standard error."""
    typer.echo(f"markethistory: {line}", err=True)


def _exit(code: ExitCode, line: str) -> NoReturn:
    complain(line)
    raise typer.Exit(code) from None
