"""Reads of the sync client against a scripted HTTP/2 server, and what such a server answers to be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

import markethistory
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import MINUTE, SERIES, START, bars, frames
from tests.unit.client.peers import IMPATIENT

if TYPE_CHECKING:
    from tests.unit.client.h2_server import (
        Peer,
        Request,
    )

ROWS = bars(1000)
END = START + 1000 * MINUTE
TABLE = pa.Table.from_batches([ROWS])
ONCE = markethistory.RetryPolicy(attempts=1)


def contents(request: Request) -> list[bytes]:
    """The messages of a whole read, as they are on the wire."""
    return [one.SerializeToString() for one in frames(ROWS, pb.ReadRangeRequest.FromString(request.body))]


def whole(peer: Peer) -> None:
    """Answers every read of a connection as it should be."""
    while True:
        request = peer.request()
        peer.answer(request, *contents(request))


def read(target: str, retry: markethistory.RetryPolicy = IMPATIENT, timeout: float | None = None) -> pa.Table:
    with markethistory.connect(target, retry=retry) as history:
        return history.read(SERIES, START, END, timeout=timeout)
