"""The thread that waits on gRPC's queue, kept from pushing the event loop off its processor.

`grpc.aio` has one such thread, which wakes the event loop when something is done. Each message that is sent wakes it
in turn, while the loop's thread is still at work: a scheduler that lets run who has just woken takes the processor from
the loop and gives it to a thread that next waits for a lock of the loop's. Under the policy for batch work (sched(7))
a thread that wakes waits for a processor that is free; a long read then takes about a tenth less of the server's time.
Promises: where there is no such policy, or it may not be set, nothing happens.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def patient_threads() -> Iterator[None]:
    """Threads of Python's that are started within do not push others off when they wake."""
    before = set(threading.enumerate())
    yield
    if sys.platform == "linux":
        for started in set(threading.enumerate()) - before:
            if started.native_id is not None:
                with suppress(OSError):
                    os.sched_setscheduler(started.native_id, os.SCHED_BATCH, os.sched_param(0))
