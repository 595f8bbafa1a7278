"""One logical ensure over as many calls as it takes. No I/O.

An ensure is idempotent: if its stream breaks, the same range is asked for again and only what is still missing is
fetched. Progress and result add up over the calls, so that counters never decrease.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from markethistory.convert import plan_of, progress_of, spans_of
from markethistory.errors import IncompleteStream
from markethistory.retry import Attempts
from markethistory.values import EnsurePlan, EnsureProgress, EnsureResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from markethistory.errors import MarketHistoryError
    from markethistory.retry import RetryPolicy
    from markethistory.v1 import history_service_pb2 as pb

EnsureEvent: TypeAlias = "EnsurePlan | EnsureProgress"
ProgressCallback: TypeAlias = "Callable[[EnsureEvent], object]"
"""Called with the plan first, then with progress at least once a second. What it raises ends the call."""

_NOTHING = EnsureProgress(0, 0, 0)


class EnsureSession:
    """The state of one ensure; used like ReadSession."""

    def __init__(self, request: pb.EnsureRangeRequest, policy: RetryPolicy) -> None:
        self.plan: EnsurePlan | None = None
        self.result: EnsureResult | None = None
        self._request = request
        self._attempts = Attempts(policy)
        self._before = _NOTHING
        self._now = _NOTHING

    def request(self) -> pb.EnsureRangeRequest:
        """What to ask next; a moving end is fixed by the first plan."""
        self._before = self._now
        return self._request

    @property
    def done(self) -> bool:
        """Whether all that was asked for is here."""
        return (self.plan if self._request.plan_only else self.result) is not None

    def receive(self, message: pb.EnsureRangeResponse) -> list[EnsureEvent]:
        """What the message tells the caller, if anything; keeps the plan and the result."""
        kind = message.WhichOneof("event")
        self._attempts.heard()
        if kind == "plan" and self.plan is None:
            self.plan = plan_of(message.plan)
            self._request.range.CopyFrom(message.plan.range)
            return [self.plan]
        if kind == "progress":
            return [self._progress(progress_of(message.progress))]
        if kind == "result":
            self._keep_result(message.result)
        return []

    def finish(self) -> None:
        """The call ended well. Raises IncompleteStream if the ensure did not."""
        if not self.done:
            raise IncompleteStream(f"the stream of {self._request.series} ended without its result")

    def failed(self, error: MarketHistoryError) -> float:
        """Seconds to wait before the next call. Raises the error if there should be none."""
        return self._attempts.pause_after(error)

    def _progress(self, told: EnsureProgress) -> EnsureProgress:
        if told.pages_done > self._now.pages_done - self._before.pages_done:
            self._attempts.progressed()
        self._now = replace(
            told,
            pages_done=self._before.pages_done + told.pages_done,
            rows_done=self._before.rows_done + told.rows_done,
            calls_done=self._before.calls_done + told.calls_done,
        )
        return self._now

    def _keep_result(self, result: pb.EnsureResult) -> None:
        if self.plan is None:
            raise IncompleteStream("the server sent a result without a plan")
        self.result = EnsureResult(
            self.plan,
            self._before.rows_done + result.row_count,
            self._before.pages_done + result.page_count,
            self._before.calls_done + result.call_count,
            spans_of(result.uncovered),
            result.quarantined_count,
        )
