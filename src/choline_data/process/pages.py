"""Pages of mapped files that this process has in memory, bounded in bytes where somebody sets a bound.

The system counts each page of a mapped file that was touched as memory of the process, until the process lets it go or
memory is short everywhere. A server that reads through its datasets would seem to hold all of them. Where there are more
pages than the bound, all pages of mapped store files are let go: they stay in the system's cache of files, from where a
page comes back in less than a microsecond when it is read again.

Linux alone. Elsewhere nothing is let go.
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
_MORE_OTHERS = 32 << 20  # that are loaded later
_DONTNEED = 4  # MADV_DONTNEED: of a file that is only read, what is let go is read again


class Pages:
    """The pages of the files that are watched."""

    def __init__(self) -> None:
        self._watched: dict[int, weakref.ref[pa.Buffer]] = {}
        self._room: Callable[[], int] | None = None
        self._others = self._others_first = 0  # pages of libraries and the like, in bytes
        self._statm = -1
        self._lock = threading.Lock()
        self.times = 0  # that pages were let go

    def watch(self, mapped: pa.Buffer) -> pa.Buffer:
        """Takes a mapped file that is only read; gives it back."""
        key = id(mapped)
        if mapped.size:
            self._watched[key] = weakref.ref(mapped, lambda _: self._watched.pop(key, None) and None)
        return mapped

    def bound(self, room: Callable[[], int]) -> None:
        """Holds the pages to `room()` bytes from now on, in this process and not in its forks."""
        if not os.path.exists(_STATM):
            return
        self._statm = os.open(_STATM, os.O_RDONLY)
        os.register_at_fork(after_in_child=self._forget)
        self._others = self._others_first = self.held()
        self._room = room

    def _forget(self) -> None:
        self._room = None

    def held(self) -> int:
        """Bytes of files that this process has in memory, those of libraries among them."""
        return int(os.pread(self._statm, 128, 0).split()[2]) * _PAGE

    def look(self) -> None:
        """Lets pages go where there are too many. Cheap enough to be asked after every block or batch that is read."""
        if self._room is None or self.held() - self._others <= self._room():
            return
        if not self._lock.acquire(blocking=False):
            return  # another thread does
        try:
            for watched in list(self._watched.values()):
                mapped = watched()  # it can't be unmapped before this is done with it
                if mapped is not None:
                    _let_go(mapped)
            self.times += 1
            # What is left belongs to libraries, or was touched meanwhile: then it is found the next time.
            self._others = min(self.held(), self._others_first + _MORE_OTHERS)
        finally:
            self._lock.release()


def _let_go(mapped: pa.Buffer) -> None:
    import ctypes

    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    before = mapped.address % _PAGE  # a mapping begins with a page
    advise(mapped.address - before, mapped.size + before, _DONTNEED)


PAGES = Pages()
