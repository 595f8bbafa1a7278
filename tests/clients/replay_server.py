"""Replays the golden cases: `python -m tests.clients.replay_server` serves HistoryService until its stdin closes.

Owns the port and the memory of what was asked. Sends the bytes of golden/ as they are. A request that is not the one
that its case describes is refused with INVALID_FIELD; README.md says what is insisted on.
"""

from __future__ import annotations

import gzip
import json
import signal
import struct
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.series_pb2 import TimeRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    Judge = Callable[["Script", Any], str]

HERE: Final = Path(__file__).resolve().parent
SERVICE: Final = "markethistory.v1.HistoryService"


def frames_of(name: str) -> list[bytes]:
    """The messages in a file of golden/."""
    data = gzip.decompress((HERE / "golden" / name).read_bytes())
    found, position = [], 0
    while position < len(data):
        (size,) = struct.unpack_from("<I", data, position)
        found.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    return found


class Script:
    """The answers of one case. Rounds that answer to the same key are given in turns."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self._rounds: dict[str, list[tuple[list[bytes], dict[str, Any] | None]]] = defaultdict(list)
        for answer in case["rounds"]:
            self._rounds[_key_text(answer["resume_after"])].append((frames_of(answer["frames"]), answer["failure"]))
        self._asked: dict[str, int] = defaultdict(int)
        self._first = next(iter(self._rounds[_key_text(None)]))[0]

    def take(self, key: str) -> tuple[list[bytes], dict[str, Any] | None]:
        """The next answer to a key. Raises KeyError if there is none."""
        if key not in self._rounds:
            raise KeyError(key)
        turn = self._asked[key]
        self._asked[key] += 1
        return self._rounds[key][turn % len(self._rounds[key])]

    def asked(self, key: str) -> int:
        """How often this key was asked for."""
        return self._asked[key]

    def resolved(self) -> TimeRange:
        """The range that the first message stated."""
        for message in self._first:
            read, ensured = pb.ReadRangeResponse.FromString, pb.EnsureRangeResponse.FromString
            return ensured(message).plan.range if self.case["call"] == "ensure" else read(message).range
        return _window(self.case)


def _key_text(key: dict[str, int] | None) -> str:
    return "" if key is None else f"{key['ts_us']}/{key['seq']}"


def _window(case: dict[str, Any]) -> TimeRange:
    window = TimeRange()
    for name in ("start", "end"):
        if case[name] is not None:
            getattr(window, name).FromJsonString(case[name])
    return window


class Refusal(ValueError):
    """A request that is not the case's: the field's name and its value."""


def _insist(field: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Refusal(field, f"{found} (wanted: {wanted})")


class Replay:
    """The RPCs, as functions from a request to messages."""

    def __init__(self, cases: Iterable[dict[str, Any]]) -> None:
        self._scripts = {case["series"]: Script(case) for case in cases}
        self._lock = threading.Lock()

    def coverage(self, request: pb.CoverageRequest, context: grpc.ServicerContext) -> bytes:
        return next(self._answer(request, context, self._coverage))

    def read_last(self, request: pb.ReadLastRequest, context: grpc.ServicerContext) -> bytes:
        """The messages that the case has for ReadRange, as one answer."""
        merged = pb.ReadLastResponse()
        for message in self._answer(request, context, self._read_last):
            part = pb.ReadRangeResponse.FromString(message)
            merged.MergeFromString(pb.ReadLastResponse(summary=part.summary).SerializeToString())
            if part.HasField("range"):
                merged.range.CopyFrom(part.range)
            merged.row_count += part.row_count
            merged.arrow_ipc += part.arrow_ipc
        return merged.SerializeToString()

    def read_range(self, request: pb.ReadRangeRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        return self._answer(request, context, self._read_range)

    def ensure_range(self, request: pb.EnsureRangeRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        return self._answer(request, context, self._ensure_range)

    def _answer(self, request: Any, context: grpc.ServicerContext, judge: Judge) -> Iterator[bytes]:
        try:
            with self._lock:
                messages, failure = self._take(request, judge)
        except Refusal as refusal:
            field, value = refusal.args
            messages, failure = [], _refused(field, value)
        yield from messages
        if failure is not None:
            _end(context, failure)

    def _take(self, request: Any, judge: Judge) -> tuple[list[bytes], dict[str, Any] | None]:
        script = self._scripts.get(request.series)
        if script is None:
            raise Refusal("series", request.series)
        key = judge(script, request)
        try:
            return script.take(key)
        except KeyError:
            raise Refusal("resume_after", key) from None

    @staticmethod
    def _coverage(script: Script, request: pb.CoverageRequest) -> str:
        _insist("call", "coverage", script.case["call"])
        _insist("range", request.range, _window(script.case))
        return ""

    @staticmethod
    def _read_last(script: Script, request: pb.ReadLastRequest) -> str:
        case = script.case
        _insist("call", "last", case["call"])
        _insist("count", request.count, case["last"])
        _insist("columns", sorted(request.columns), sorted(case["columns"] or ()))
        _insist("compression", "none", case["compression"])
        _insist("end", request.end, _window(case).end if case["end"] else Timestamp())
        if request.count > 1000:
            raise Refusal("count", str(request.count))
        return ""

    @staticmethod
    def _read_range(script: Script, request: pb.ReadRangeRequest) -> str:
        case = script.case
        if case["call"] not in ("read", "last"):
            raise Refusal("call", case["call"])
        _insist("columns", sorted({*request.columns} - {"ts"}), sorted(case["columns"] or ()))
        _insist("compression", pb.Compression.Name(request.compression), _COMPRESSIONS[case["compression"]])
        if not request.HasField("resume_after"):
            _insist("last", request.last, case["last"] or 0)
            asked_for_last = case["call"] == "last"
            _insist("range.start", request.range.start if not asked_for_last else None, _start(case))
            _insist("range.end", request.range.end, _window(case).end)
            return ""
        _insist("last", request.last, 0)
        _insist("range", request.range, script.resolved())
        after = request.resume_after
        return _key_text({"ts_us": after.ts.ToMicroseconds(), "seq": after.seq})

    @staticmethod
    def _ensure_range(script: Script, request: pb.EnsureRangeRequest) -> str:
        _insist("call", "ensure", script.case["call"])
        _insist("range", request.range, script.resolved() if script.asked("") else _window(script.case))
        return ""


_COMPRESSIONS: Final = {
    "none": "COMPRESSION_UNSPECIFIED",
    "lz4": "COMPRESSION_LZ4",
    "zstd": "COMPRESSION_ZSTD",
}


def _start(case: dict[str, Any]) -> Timestamp | None:
    """What a request says of the start; of one for the last rows it does not count."""
    return None if case["call"] == "last" else _window(case).start


def _refused(field: str, value: str) -> dict[str, Any]:
    return {
        "code": "INVALID_ARGUMENT",
        "message": f"{field}: got {value}",
        "reason": "INVALID_FIELD",
        "metadata": {"field": field, "value": value},
        "retry_after_ms": None,
    }


def _end(context: grpc.ServicerContext, failure: dict[str, Any]) -> None:
    """Ends the call with a status, and with details if the failure has any."""
    code = grpc.StatusCode[failure["code"]]
    status = Status(code=code.value[0], message=failure["message"])
    if failure["reason"] is not None:
        info = ErrorInfo(reason=failure["reason"], domain="markethistory", metadata=failure["metadata"])
        status.details.add().Pack(info)
    if failure["retry_after_ms"] is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(milliseconds=failure["retry_after_ms"]))
        packed = AnyMessage()
        packed.Pack(retry)
        status.details.append(packed)
    if status.details:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, failure["message"])


def handler(replay: Replay) -> grpc.GenericRpcHandler:
    """The service; answers are bytes already."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Coverage": unary(replay.coverage, pb.CoverageRequest.FromString),
            "ReadLast": unary(replay.read_last, pb.ReadLastRequest.FromString),
            "ReadRange": stream(replay.read_range, pb.ReadRangeRequest.FromString),
            "EnsureRange": stream(replay.ensure_range, pb.EnsureRangeRequest.FromString),
        },
    )


def _await_end_of_input(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def main() -> None:
    """Serves until stdin ends or SIGTERM comes."""
    cases = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    over = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=_await_end_of_input, args=(over,), daemon=True).start()
    with ThreadPoolExecutor(max_workers=4) as pool:
        server = grpc.server(pool, handlers=[handler(Replay(cases))], options=[("grpc.so_reuseport", 0)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        print(f"listening on 127.0.0.1:{port}", flush=True)  # noqa: T201  its parent waits for this line
        over.wait()
        server.stop(0).wait()


if __name__ == "__main__":
    main()
