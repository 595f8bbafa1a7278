"""How the C library keeps the memory that messages are made of.

A message is most of a MiB. glibc takes memory of that size from the kernel for each one and gives it back after, so
that every page of every message has to be cleared and mapped anew, which costs more than all else that sending it
takes. Told here to keep such memory, up to a bound, it is used again and again.
Promises: where the C library is another one, nothing happens.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Their numbers in glibc's malloc.h."""
_LARGEST_KEPT: Final = 4 * 2**20
"""More than the largest message that a client can ask for."""
_MOST_KEPT: Final = 64 * 2**20
"""Free memory at the end of the heap beyond this goes back to the kernel."""


def keep_memory() -> None:
    """Lets malloc keep what messages need, for the rest of this process."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
