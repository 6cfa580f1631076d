"""Configures how the C library's malloc treats freed memory."""

from __future__ import annotations

import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_TRIM_THRESHOLD and so on, in glibc's malloc.h
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_TUNABLES = "GLIBC_TUNABLES"
ARENAS = 2


@cache
def keep_freed(size: int) -> None:
    """Makes malloc keep up to `size` freed bytes per arena instead of returning them to the system. Linux with glibc only.

    Environment variables that configure malloc take precedence.

    Messages, samples and batches of megabytes are allocated and freed all the time. If freed memory returns to the system,
    the pages of the next allocation are faulted in and zeroed again, which costs more than copying data into them.

    Each arena keeps `size` bytes, and each thread may get its own arena. gRPC starts and ends threads, so memory would grow
    for hours, until every arena has once held the largest messages. The number of arenas is therefore limited to ARENAS,
    which is enough for threads that mostly wait for one another.
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
