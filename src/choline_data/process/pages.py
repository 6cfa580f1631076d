"""Limits the memory of this process by releasing pages of mapped files, if a limit is set.

The operating system counts each page of a mapped file that was read as memory of the process, until the process releases
it or the whole system runs short of memory. A server that reads through its datasets would appear to use memory for all
of them. If the process uses more than the limit, all pages of mapped store files are released. They stay in the system's
page cache. A page that is read again costs a page fault: half a second of CPU time for each GB on a virtual machine. So
the limit is on the whole process. Datasets that fit into what the caches leave free never lose their pages.

Linux only. Elsewhere nothing is released.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref

import pyarrow as pa

from choline_data.process.read_ahead import DONTNEED, advise

_PAGE = mmap.PAGESIZE
_STATM = "/proc/self/statm"
_MORE_OTHERS = 32 << 20  # allowance in bytes for libraries that are loaded later


class Pages:
    """The memory pages of the watched mapped files."""

    def __init__(self) -> None:
        self._watched: dict[int, weakref.ref[pa.Buffer]] = {}
        self._most: int | None = None  # limit in bytes for the whole process; None for no limit
        self._least = 0  # if fewer bytes of pages are in memory, they are not released
        # resident bytes of other files, such as libraries: now, and when the limit was set
        self._others = self._others_first = 0
        self._statm = -1
        self._lock = threading.Lock()
        self.times = 0  # how often pages were released

    def watch(self, mapped: pa.Buffer) -> pa.Buffer:
        """Registers a mapped file that is only read, and returns it."""
        key = id(mapped)
        if mapped.size:
            self._watched[key] = weakref.ref(mapped, lambda _: self._watched.pop(key, None) and None)
        return mapped

    def bound(self, most: int, least: int) -> None:
        """Limits the resident memory of this process, but not of its forked children, to `most` bytes, as far as pages
        can be released.

        Up to `least` bytes of pages are always kept. Otherwise a process that needs more than `most` for other things
        would release its pages after each read.
        """
        if not os.path.exists(_STATM):
            return
        self._statm = os.open(_STATM, os.O_RDONLY)
        os.register_at_fork(after_in_child=self._forget)
        self._others = self._others_first = self.resident()[1]
        self._most, self._least = most, least

    def _forget(self) -> None:
        self._most = None

    def resident(self) -> tuple[int, int]:
        """Returns the resident bytes of this process, and how many of them are pages of files, including libraries."""
        _, whole, files, *_ = os.pread(self._statm, 128, 0).split()
        return int(whole) * _PAGE, int(files) * _PAGE

    def look(self) -> None:
        """Releases pages if the process exceeds its limit. Fast enough to call after every block or batch that is read."""
        if self._most is None:
            return
        whole, files = self.resident()
        if whole <= self._most or files - self._others <= self._least:
            return
        if not self._lock.acquire(blocking=False):
            return  # another thread is releasing pages
        try:
            for watched in list(self._watched.values()):
                mapped = watched()  # This reference keeps the file mapped until its pages are released.
                if mapped is not None:
                    advise(mapped.address, mapped.size, DONTNEED)
            self.times += 1
            # The remaining pages belong to libraries, or were read meanwhile. The maximum keeps most of the latter from being
            # counted as libraries, so the next call releases them.
            self._others = min(self.resident()[1], self._others_first + _MORE_OTHERS)
        finally:
            self._lock.release()


PAGES = Pages()
