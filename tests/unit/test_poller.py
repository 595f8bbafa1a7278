"""Threads that do not push others off their processor: what the system says of them."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from historyd.service.poller import patient_threads


def start() -> threading.Thread:
    """A thread that runs until the test is over."""
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no such policy")
def test_only_threads_that_are_started_within_are_patient() -> None:
    before = start()
    with patient_threads():
        within = start()
    after = start()
    policies = [os.sched_getscheduler(thread.native_id or 0) for thread in (before, within, after)]
    assert policies == [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_where_it_is_forbidden_threads_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.sched_setscheduler", forbidden, raising=False)
    with patient_threads():
        assert start().is_alive()
