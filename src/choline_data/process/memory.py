"""How much freed memory the process keeps, and how it returns the rest to the system."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import cache

import pyarrow as pa

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_TRIM_THRESHOLD and so on, in glibc's malloc.h
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_TUNABLES = "GLIBC_TUNABLES"
ARENAS = 2
SWEEP_BYTES, SWEEP_SECONDS = 8 << 20, 0.2
RELEASE_SECONDS = 1.0


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
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    if not any(name in os.environ for name in _SETTINGS):
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, size)
    if "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, ARENAS)


class Sweeper:
    """Returns the memory of large objects to the system, soon after many of them were freed.

    Two things keep memory longer than needed. An error's traceback can refer to itself, so Python frees its objects
    only at the next garbage collection, and the time of that depends on the number of objects, not on their bytes.
    And malloc keeps free gaps between other allocations. `run` starts a function in
    another thread.
    """

    def __init__(self, run: Callable[[Callable[[], None]], object]) -> None:
        self._run = run
        self._bytes = 0
        self._at = 0.0
        self._sweeping = threading.Lock()

    def freed(self, size: int) -> None:
        """Counts the bytes of a large object that is freed. Starts a sweep after SWEEP_BYTES and SWEEP_SECONDS."""
        self._bytes += size
        if self._bytes < SWEEP_BYTES or time.monotonic() < self._at or not self._sweeping.acquire(blocking=False):
            return
        self._bytes = 0
        self._at = time.monotonic() + SWEEP_SECONDS
        try:
            self._run(self._sweep)
        except RuntimeError:  # the pool of threads is shut down, so no sweep can run
            self._sweeping.release()

    def _sweep(self) -> None:
        try:
            gc.collect()
            release(SWEEP_BYTES)
        finally:
            self._sweeping.release()


def release(keep: int) -> None:
    """Returns freed memory to the system, also the gaps between other allocations, but keeps about `keep` bytes."""
    pa.default_memory_pool().release_unused()
    trim = _trimmer()
    if trim is not None:
        trim(keep)


@cache
def _trimmer() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


class PassMemory:
    """Returns the memory of earlier passes to the system, at most once in RELEASE_SECONDS for the whole process."""

    def __init__(self) -> None:
        self._at = time.monotonic() + RELEASE_SECONDS

    def begins(self) -> None:
        """Returns freed memory to the system, unless this was done a short time ago. Takes milliseconds.

        Call this when a pass begins, and not from a daemon thread: such a thread may still run when Python exits.
        """
        now = time.monotonic()
        if now >= self._at:
            self._at = now + RELEASE_SECONDS
            release(SWEEP_BYTES)


PASSES = PassMemory()
