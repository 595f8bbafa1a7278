"""Logs go to standard error, one line a record: time, level, logger, message, then `name=value` for its fields.

Values that could be mistaken for more than one (spaces, quotes, line breaks) are written as JSON strings, so that
nothing a client sends can forge a line. A record's fields are in `extra={"fields": {...}}`.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Final

_PLAIN: Final = re.compile(r"[\w.:/+*?@-]+", re.ASCII)


class LineFormatter(logging.Formatter):
    """Formats a record as one line, a traceback after it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 -- logging's
        """The time in UTC, to the millisecond."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's own name
        """The line without a traceback."""
        fields = getattr(record, "fields", {})
        told = "".join(f" {name}={_value(value)}" for name, value in fields.items())
        return super().formatMessage(record).replace("\n", "\\n") + told


def log_to_stderr(level: str) -> None:
    """Sends all records of at least this level to standard error. `level` is a name in any case."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _value(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
