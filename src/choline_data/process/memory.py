"""What the C library does with memory that is freed."""

from __future__ import annotations

import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # their names in glibc's malloc.h begin with M
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_TUNABLES = "GLIBC_TUNABLES"
ARENAS = 2


@cache
def keep_freed(size: int) -> None:
    """Has this process keep up to `size` freed bytes, unless its environment says what malloc is to do.

    Messages, samples and batches come and go by the megabyte. Each time that one is given back to the system, the pages
    of the next are faulted in and zeroed again, which costs more than what is copied into them.

    Each arena of malloc keeps that much for itself, and each thread may get an arena of its own. gRPC's threads come and
    go, so memory would grow for hours until every arena has once had the biggest messages. ARENAS of them are enough for
    threads that mostly wait for one another.
    """
    if _TUNABLES in os.environ or not sys.platform.startswith("linux"):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    if not any(name in os.environ for name in _SETTINGS):
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, size)
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, ARENAS)
