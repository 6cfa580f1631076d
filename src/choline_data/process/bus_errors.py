"""SIGBUS in a mapped file of ours marks that file as lost; any other one does what it did before.

The system sends SIGBUS to a thread that reads a page of a mapped file which is no longer there: the file was cut, or its
disk fails. Without a handler the process dies, and every stream with it. Ours marks the region and maps zeros over it, so
that the read goes on; whoever reads looks at the mark before it uses what it read (`places/mapped.py`).

The handler is Python, called through ctypes. It runs in the thread that read, in the middle of that read: it takes the
interpreter's lock, which that thread has or can wait for, because no code of ours or of Arrow reads mapped memory while it
holds a lock that another thread wants with the interpreter's lock in its hand. It allocates a few small objects and makes one
system call. Linux alone: elsewhere a lost page still ends the process.
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
_CODE_AT, _ADDRESS_AT = 8, 16  # of si_code and si_addr in siginfo_t, on 64-bit Linux
_MOST_FAULTS, _MOST_SENT = 100, 1  # passed on, for one address or none: the handler before ours may pass them back

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
    """A mapped buffer whose pages may go away. `buffer` is the same memory, and keeps the region known while it is used."""

    def __init__(self, inner: pa.Buffer) -> None:
        self._inner = inner  # unmapped when it goes, after `__del__`
        self.start, self.size = inner.address, inner.size
        self.lost = False
        _REGIONS[self.start] = weakref.ref(self)
        watch()

    @property
    def buffer(self) -> pa.Buffer:
        """The memory. The buffer, and all that is made of it, holds this region."""
        return pa.foreign_buffer(self.start, self.size, base=self)

    def __del__(self) -> None:
        _REGIONS.pop(self.start, None)


_REGIONS: dict[int, weakref.ref[Region]] = {}


class _Guard:
    """The handler, and what was there before it."""

    def __init__(self) -> None:
        library = ctypes.PyDLL(None)  # which does not let go of the interpreter's lock around a call
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
        self._passed_on = (0, 0)  # a fault's address, and how often

    def install(self) -> None:
        """Puts the handler in front of whatever is there, where it is not in front already."""
        self._sigaction(*self._look)
        if self._now.handler == self._ours.handler:
            return
        found = _Action()
        self._sigaction(signal.SIGBUS, ctypes.addressof(self._ours), ctypes.addressof(found))
        if found.handler != self._ours.handler:  # another thread may have been first
            self._before = found

    def _caught(self, number: int, info: int, context: int) -> None:
        address = 0
        if ctypes.c_int.from_address(info + _CODE_AT).value > 0:  # the kernel's; other codes are of kill() and raise()
            address = ctypes.c_void_p.from_address(info + _ADDRESS_AT).value or 0
            if self._covered(address):
                return
        self._pass_on(number, info, context, address)

    def _covered(self, address: int) -> bool:
        """Whether the address lies in a region of ours, which now has zeros in its place."""
        for start, known in list(_REGIONS.items()):
            region = known()
            if region is None or not start <= address < start + region.size + -region.size % mmap.PAGESIZE:
                continue
            region.lost = True  # before there are zeros to be read
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
            return bool(self._mmap(start, region.size, mmap.PROT_READ, flags, -1, 0) == start)
        return False

    def _pass_on(self, number: int, info: int, context: int, address: int) -> None:
        """Does what the handler before ours does; ends the process where that one keeps sending the signal back."""
        times = self._passed_on[1] + 1 if self._passed_on[0] == address else 1
        self._passed_on = (address, times)
        before = self._before
        if (before.handler or 0) in (_SIG_DFL, _SIG_IGN) or times > (_MOST_FAULTS if address else _MOST_SENT):
            self._sigaction(number, ctypes.addressof(self._default), None)
            if not address:
                signal.raise_signal(number)  # it comes when this handler returns; a fault comes by itself
        else:
            ctypes.cast(before.handler, _HANDLER)(number, info, context)


_guard: list[_Guard] = []


def watch() -> None:
    """Has lost pages of mapped files marked from here on, also where another library took the signal meanwhile."""
    if not SUPPORTED:
        return
    if not _guard:
        _guard.append(_Guard())
    _guard[0].install()
