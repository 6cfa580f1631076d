"""Asks the operating system to read parts of a mapped file from the disk before the process touches them.

A process that touches a page which is not in memory waits for the disk. The kernel then reads the pages around it too, up
to megabytes, most of which a shuffled order does not need. Here the kernel is asked for exactly the parts that are needed,
all at once. Linux only. Elsewhere nothing is asked for.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable
from functools import cache

_PAGE = mmap.PAGESIZE
_LOOKED = 16  # if there are many spans, this many of them are tested for being in memory
WILLNEED = 3  # MADV_WILLNEED: the kernel begins to read the pages, and does not wait for them
DONTNEED = (
    4  # MADV_DONTNEED: the process gives up the pages; a page of a file is read from the file again when it is used
)


@cache
def _library() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return library


def advise(address: int, size: int, advice: int) -> None:
    """Calls madvise for the pages that hold these bytes."""
    library = _library()
    if library is not None:
        before = address % _PAGE  # madvise needs the address of a page
        library.madvise(address - before, size + before, advice)


def in_memory(address: int, size: int) -> bool:
    """Returns whether all pages of these bytes of a mapped file are in memory.

    For a file that this process may not write, Linux always answers True.
    """
    library = _library()
    if library is None or not size:
        return True
    before = address % _PAGE
    pages = (size + before + _PAGE - 1) // _PAGE
    states = bytearray(pages)  # mincore sets one byte per page to 1 if the page is in memory
    library.mincore(address - before, size + before, ctypes.addressof(ctypes.c_char.from_buffer(states)))
    return states.find(0) < 0


def fetch(spans: Iterable[tuple[int, int]], *, look: bool) -> None:
    """Asks the kernel to read these spans (address, size) of mapped files. With `look`, spans that are in memory are
    skipped; this test takes a quarter of the time of a request.

    If there are many spans and a sample of them is in memory, nothing is requested.
    """
    ordered = sorted(spans)  # in ascending order, which disks read fastest
    if look and len(ordered) > _LOOKED and all(in_memory(*span) for span in ordered[:: len(ordered) // _LOOKED]):
        return
    for address, size in ordered:
        if not (look and in_memory(address, size)):
            advise(address, size, WILLNEED)
