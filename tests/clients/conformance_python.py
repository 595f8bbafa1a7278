"""The runner of the Python client: `python -m tests.clients.conformance_python TARGET CASES`; see README.md."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

import markethistory
from markethistory import EnsurePlan, IncompleteStream, MarketHistoryError
from tests.clients.digest import error_digest, lines_digest, rows_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from markethistory import Client, CoverageSpan
    from markethistory.ensuring import EnsureEvent

QUICK: Final = markethistory.RetryPolicy(attempts=3, backoff_s=0.01, most_s=10)


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def table_digest(table: pa.Table) -> str:
    """The digest of a table; times are taken as the integers they are."""
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in table.columns]
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return rows_digest([str(field.type) for field in table.schema], rows)


def _span_lines(spans: Iterable[CoverageSpan]) -> list[tuple[int, int, str, int]]:
    return [(micros(s.range.start), micros(s.range.end), s.state.name, s.row_count) for s in spans]


def _event_line(event: EnsureEvent) -> tuple[int, int, str, int]:
    if isinstance(event, EnsurePlan):
        return micros(event.range.start), micros(event.range.end), "PLAN", event.page_count
    page = event.page
    start, end = (0, 0) if page is None else (micros(page.start), micros(page.end))
    return start, end, "PROGRESS", event.rows_done


def read(client: Client, case: dict[str, Any]) -> dict[str, Any]:
    options: Any = {
        "columns": case["columns"],
        "compression": None if case["compression"] == "none" else case["compression"],
        "ensure": False,
    }
    if case["call"] == "last":
        table = client.last(case["series"], case["last"], end=case["end"], **options)
        return {"rows": table.num_rows, "digest": table_digest(table)}
    with client.read_batches(case["series"], case["start"], case["end"], **options) as stream:
        streamed = pa.Table.from_batches(list(stream), stream.schema)
    table = client.read(case["series"], case["start"], case["end"], **options)
    found = table_digest(streamed)
    if table_digest(table) != found:
        return {"rows": 0, "digest": None, "error": "TABLE_DIFFERS"}
    return {"rows": table.num_rows, "digest": found}


def coverage(client: Client, case: dict[str, Any]) -> dict[str, Any]:
    lines = _span_lines(client.coverage(case["series"], case["start"], case["end"]))
    return {"rows": sum(line[3] for line in lines), "digest": lines_digest(lines)}


def ensure(client: Client, case: dict[str, Any]) -> dict[str, Any]:
    lines = []
    result = client.ensure(
        case["series"], case["start"], case["end"], on_progress=lambda event: lines.append(_event_line(event))
    )
    window = result.plan.range
    lines.append((micros(window.start), micros(window.end), "RESULT", result.row_count))
    return {"rows": result.row_count, "digest": lines_digest([*lines, *_span_lines(result.uncovered)])}


CALLS: Final = {"read": read, "last": read, "coverage": coverage, "ensure": ensure}


def run(client: Client, case: dict[str, Any]) -> dict[str, Any]:
    """The outcome of one case."""
    try:
        outcome = CALLS[case["call"]](client, case)
    except IncompleteStream as cut:
        outcome = {"rows": 0, "digest": None, "error": "STREAM_CUT", "message": str(cut)}
    except MarketHistoryError as error:
        code = "CONTRACT_BROKEN" if error.code is None else error.code.name
        pause = None if error.retry_after_s is None else round(error.retry_after_s * 1000)
        digest = error_digest(error.reason, error.metadata, pause) if error.reason else None
        outcome = {"rows": 0, "digest": digest, "error": error.reason or code, "message": str(error)}
    return {"case": case["name"], "error": None, **outcome}


def main(target: str, path: str) -> None:
    """Runs all cases."""
    cases = json.loads(Path(path).read_text(encoding="utf-8"))
    authority, token = os.environ.get("CONFORMANCE_CA"), os.environ.get("CONFORMANCE_TOKEN")
    tls = False if authority is None else markethistory.Tls(ca=authority)
    with markethistory.connect(target, tls=tls, token=token, retry=QUICK) as client:
        for case in cases:
            print(json.dumps(run(client, case)), flush=True)  # noqa: T201  the outcome is its output


if __name__ == "__main__":
    main(*sys.argv[1:])
