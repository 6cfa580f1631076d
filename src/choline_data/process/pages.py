"""Limits how many bytes of mapped file pages count as memory of this process, if a limit is set.

The operating system counts each page of a mapped file that was read as memory of the process, until the process releases
it or the whole system runs short of memory. A server that reads through its datasets would appear to use memory for all
of them. If the pages exceed the limit, all pages of mapped store files are released. They stay in the system's page cache.
When a page is read again, it returns from there in less than a microsecond.

Linux only. Elsewhere nothing is released.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Callable

import pyarrow as pa

_PAGE = mmap.PAGESIZE
_STATM = "/proc/self/statm"
_MORE_OTHERS = 32 << 20  # allowance in bytes for libraries that are loaded later
_DONTNEED = 4  # MADV_DONTNEED: for a read-only file mapping, a released page is read from the file again


class Pages:
    """The memory pages of the watched mapped files."""

    def __init__(self) -> None:
        self._watched: dict[int, weakref.ref[pa.Buffer]] = {}
        self._room: Callable[[], int] | None = None
        self._others = self._others_first = 0  # bytes in pages of other files, such as libraries
        self._statm = -1
        self._lock = threading.Lock()
        self.times = 0  # how often pages were released

    def watch(self, mapped: pa.Buffer) -> pa.Buffer:
        """Registers a mapped file that is only read, and returns it."""
        key = id(mapped)
        if mapped.size:
            self._watched[key] = weakref.ref(mapped, lambda _: self._watched.pop(key, None) and None)
        return mapped

    def bound(self, room: Callable[[], int]) -> None:
        """Limits the pages to `room()` bytes from now on, in this process but not in its forked children."""
        if not os.path.exists(_STATM):
            return
        self._statm = os.open(_STATM, os.O_RDONLY)
        os.register_at_fork(after_in_child=self._forget)
        self._others = self._others_first = self.held()
        self._room = room

    def _forget(self) -> None:
        self._room = None

    def held(self) -> int:
        """Bytes of file pages that this process has in memory, including those of libraries."""
        return int(os.pread(self._statm, 128, 0).split()[2]) * _PAGE

    def look(self) -> None:
        """Releases pages if they exceed the limit. Cheap enough to call after every block or batch that is read."""
        if self._room is None or self.held() - self._others <= self._room():
            return
        if not self._lock.acquire(blocking=False):
            return  # another thread is releasing pages
        try:
            for watched in list(self._watched.values()):
                mapped = watched()  # this reference keeps it mapped until its pages are released
                if mapped is not None:
                    _let_go(mapped)
            self.times += 1
            # The remaining pages belong to libraries, or were read meanwhile. The maximum keeps most of the latter from being
            # counted as libraries, so the next call releases them.
            self._others = min(self.held(), self._others_first + _MORE_OTHERS)
        finally:
            self._lock.release()


def _let_go(mapped: pa.Buffer) -> None:
    import ctypes

    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    before = mapped.address % _PAGE  # madvise needs an address at the start of a page
    advise(mapped.address - before, mapped.size + before, _DONTNEED)


PAGES = Pages()
