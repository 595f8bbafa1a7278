"""What exchanges do wrong, as answers of the loopback exchange: a plan says how its next answers misbehave.

`faults = VenueFaults()`, `serve_exchange(middlewares=[faults.middleware])`, then `faults.next(html(), times=2)`: the
next two requests for klines get HTML, those after them are answered as ever. A fault may also look at the good
answer and spoil it (`spoilt`). `faults.gate()` holds requests back until the test lets them pass.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Handler

    Fault = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
    Rows = list[list[Any]]


class VenueFaults:
    """The plan; by default it concerns klines only."""

    def __init__(self, tail: str | tuple[str, ...] = "/klines") -> None:
        self.tail = tail
        self._plan: deque[Fault] = deque()
        self._gates: list[Gate] = []

    def next(self, *faults: Fault, times: int = 1) -> None:
        """The next requests are answered by these, each so many times."""
        for fault in faults:
            self._plan.extend([fault] * times)

    def forget(self) -> None:
        """Requests are answered as ever from now on."""
        self._plan.clear()

    def gate(self) -> Gate:
        """The next request waits at the gate (and then is answered as planned)."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    @property
    def left(self) -> int:
        """How many planned faults have not happened yet."""
        return len(self._plan)

    @property
    def middleware(self) -> Any:
        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.endswith(self.tail):
                return await handler(request)
            if self._gates:
                await self._gates.pop(0).pass_through()
            return await (self._plan.popleft()(request, handler) if self._plan else handler(request))

        return answer


class Gate:
    """Holds one request: `reached` is set when it is there, `open()` lets it pass."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self._opened.wait()


def answer(
    body: str = "", status: int = 200, headers: Mapping[str, str] | None = None, kind: str = "application/json"
) -> Fault:
    """Answers with this instead."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers=headers, content_type=kind)

    return fault


def html(status: int = 200) -> Fault:
    """A maintenance page."""
    return answer("<html><body>We will be back soon</body></html>", status, kind="text/html")


def empty_body() -> Fault:
    """Nothing at all."""
    return answer("")


def truncated() -> Fault:
    """The good answer, cut in the middle of a row."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        good = await handler(request)
        assert isinstance(good, web.Response)
        return web.Response(text=(good.text or "")[:-20], content_type="application/json")

    return fault


def status(code: int, *, retry_after: str | None = None, body: str = '{"msg":"no"}') -> Fault:
    """An HTTP error, with Retry-After if given."""
    return answer(body, code, {} if retry_after is None else {"Retry-After": retry_after})


def passing() -> Fault:
    """The good answer."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request)

    return fault


def holding(reached: asyncio.Event) -> Fault:
    """Never answers, and tells that it was asked."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        reached.set()
        return await hang()(request, handler)

    return fault


def elsewhere(place: str) -> Fault:
    """Tells the caller to go there instead."""
    return answer("", 302, {"Location": place})


def hang() -> Fault:
    """Never answers."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return fault


def reset() -> Fault:
    """Closes the connection instead of answering."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return fault


def spoilt(change: Callable[[Rows], Any]) -> Fault:
    """The good rows, changed."""

    async def fault(request: web.Request, handler: Handler) -> web.StreamResponse:
        good = await handler(request)
        assert isinstance(good, web.Response)
        return web.Response(text=json.dumps(change(json.loads(good.text or "[]"))), content_type="application/json")

    return fault


def ignoring_window(by_ms: int = 86_400_000) -> Fault:
    """Rows of another time than was asked for."""
    return spoilt(lambda rows: [[row[0] + by_ms, *row[1:]] for row in rows])


def out_of_order() -> Fault:
    """The good rows, last one first."""
    return spoilt(lambda rows: rows[::-1])


def duplicated() -> Fault:
    """Every row twice."""
    return spoilt(lambda rows: [row for row in rows for _ in range(2)])


def off_grid(at: int = 0, by_ms: int = 7) -> Fault:
    """One row opens between two bars."""
    return spoilt(lambda rows: _with(rows, at, 0, rows[at][0] + by_ms))


def null_volume(at: int = 0) -> Fault:
    """One row has no volume."""
    return spoilt(lambda rows: _with(rows, at, 5, None))


def with_cell(at: int, cell: int, value: Any) -> Fault:
    """One cell of one row is something else."""
    return spoilt(lambda rows: _with(rows, at, cell, value))


def _with(rows: Rows, at: int, cell: int, value: Any) -> Rows:
    rows[at][cell] = value
    return rows
