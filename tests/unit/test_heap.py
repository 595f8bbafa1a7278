"""The heap keeps what messages are made of: told by page faults, which do not depend on the machine's load."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
{first}
part = bytes(700_000)
def message():
    return b"".join((b"head", part, b"tail"))
for _ in range(5):
    held = [message(), message()]
    del held
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    held = [message(), message()]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from historyd.heap import keep_memory; keep_memory()"


def faults(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_messages_are_made_of_memory_that_is_there_already() -> None:
    assert faults(KEEP) < 500 < faults("")


def test_a_c_library_without_such_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from historyd.heap import keep_memory

    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_memory()
