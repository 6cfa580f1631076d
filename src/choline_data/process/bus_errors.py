"""Handles SIGBUS: in a mapped file of this package it marks the file as lost; any other SIGBUS goes to the previous handler.

The operating system sends SIGBUS to a thread that reads a page of a mapped file if the page no longer exists: the file was
truncated, or its disk failed. Without a handler, the process and all its streams die. This handler marks the region as lost
and maps zeros over it, so that the read finishes. The reader checks the mark before it uses the data (`places/mapped.py`).

The handler is written in Python and called through ctypes. It runs in the reading thread, in the middle of the read, and
takes the interpreter's lock. That thread holds this lock or can wait for it without a deadlock: neither this package nor
Arrow reads mapped memory while it holds a lock that another thread waits for while holding the interpreter's lock. The
handler allocates a few small objects and makes one system call. Linux only: elsewhere a lost page still ends the process.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import sys
import weakref

import pyarrow as pa

SUPPORTED = sys.platform == "linux" and sys.maxsize > 1 << 32
_SA_SIGINFO, _MAP_FIXED = 0x4, 0x10
_SIG_DFL, _SIG_IGN = 0, 1
_CODE_AT, _ADDRESS_AT = 8, 16  # byte offsets of si_code and si_addr in siginfo_t, on 64-bit Linux
# The largest number of successive signals that are passed to the previous handler: for a fault at one address, and for
# a signal without an address. There is a limit because the previous handler may send the signal back to this one.
_MOST_FAULTS, _MOST_SENT = 100, 1

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """The C library's struct sigaction on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Region:
    """A mapped buffer whose pages may disappear. `buffer` is the same memory; it keeps the region registered while in use."""

    def __init__(self, inner: pa.Buffer) -> None:
        self._inner = inner  # the memory is unmapped when this last reference is dropped, which happens after `__del__`
        self.start, self.size = inner.address, inner.size
        self.lost = False
        _REGIONS[self.start] = weakref.ref(self)
        watch()

    @property
    def buffer(self) -> pa.Buffer:
        """The memory as a buffer. The buffer and every object that uses its memory keep this region alive."""
        return pa.foreign_buffer(self.start, self.size, base=self)

    def __del__(self) -> None:
        _REGIONS.pop(self.start, None)


_REGIONS: dict[int, weakref.ref[Region]] = {}


class _Guard:
    """The SIGBUS handler of this package, and the handler that was installed before it."""

    def __init__(self) -> None:
        library = ctypes.PyDLL(None)  # PyDLL does not release the interpreter's lock during a call
        self._sigaction = library.sigaction
        self._sigaction.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._mmap = library.mmap
        self._mmap.restype = ctypes.c_void_p
        size, number = ctypes.c_size_t, ctypes.c_int
        self._mmap.argtypes = [ctypes.c_void_p, size, number, number, number, ctypes.c_long]
        self._callback = _HANDLER(self._caught)
        self._ours = _Action()
        self._ours.handler = ctypes.cast(self._callback, ctypes.c_void_p)
        self._ours.flags = _SA_SIGINFO
        self._now = _Action()
        self._look = (signal.SIGBUS, None, ctypes.addressof(self._now))
        self._before, self._default = _Action(), _Action()
        self._passed_on = (0, 0)  # the address of the last signal that was passed on, and how many times in a row

    def install(self) -> None:
        """Installs the handler, unless it is the current one, and remembers the handler that it replaces."""
        self._sigaction(*self._look)
        if self._now.handler == self._ours.handler:
            return
        action = _Action()
        self._sigaction(signal.SIGBUS, ctypes.addressof(self._ours), ctypes.addressof(action))
        if action.handler != self._ours.handler:  # equal if another thread installed it meanwhile
            self._before = action

    def _caught(self, number: int, info: int, context: int) -> None:
        address = 0
        # positive codes come from the kernel, not from kill() or raise()
        if ctypes.c_int.from_address(info + _CODE_AT).value > 0:
            address = ctypes.c_void_p.from_address(info + _ADDRESS_AT).value or 0
            if self._replace_lost_region(address):
                return
        self._pass_on(number, info, context, address)

    def _replace_lost_region(self, address: int) -> bool:
        """Returns whether the address is in a registered region. If so, marks the region as lost and maps zeros over
        it.
        """
        for start, known in list(_REGIONS.items()):
            region = known()
            if region is None or not start <= address < start + region.size + -region.size % mmap.PAGESIZE:
                continue
            region.lost = True  # set the mark before any thread can read the zeros
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
            return bool(self._mmap(start, region.size, mmap.PROT_READ, flags, -1, 0) == start)
        return False

    def _pass_on(self, number: int, info: int, context: int, address: int) -> None:
        """Calls the previous handler.

        Ends the process if there is no previous handler, or if the previous handler always sends the signal back.
        """
        times = self._passed_on[1] + 1 if self._passed_on[0] == address else 1
        self._passed_on = (address, times)
        before = self._before
        if (before.handler or 0) in (_SIG_DFL, _SIG_IGN) or times > (_MOST_FAULTS if address else _MOST_SENT):
            self._sigaction(number, ctypes.addressof(self._default), None)
            if not address:
                # delivered when this handler returns; a fault of the hardware happens again by itself
                signal.raise_signal(number)
        else:
            ctypes.cast(before.handler, _HANDLER)(number, info, context)


_guard: list[_Guard] = []


def watch() -> None:
    """Installs the SIGBUS handler, also again if another library has replaced it. Does nothing outside 64-bit Linux."""
    if not SUPPORTED:
        return
    if not _guard:
        _guard.append(_Guard())
    _guard[0].install()
