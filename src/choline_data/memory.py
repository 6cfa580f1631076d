"""What the C library does with memory that is freed."""

from __future__ import annotations

import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed(size: int) -> None:
    """Has this process keep up to `size` freed bytes, unless its environment says what malloc is to do.

    Messages, samples and batches come and go by the megabyte. Each time that one is given back to the system, the pages
    of the next are faulted in and zeroed again, which costs more than what is copied into them.
    """
    if any(name in os.environ for name in _SETTINGS):
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, size)
