"""Files of a home as memory, and what makes that safe: a file that changes under its readers gives an error, not rows.

A mapped file can be cut, overwritten or lost by its disk while streams read it. The rules that keep wrong rows away:

- Whoever reads mapped memory does so through `steady`, or asks `same` afterwards. Nothing that was read is given
  out before that comparison. A system that writes to a file changes its times before its bytes, so a reader that saw other
  bytes sees other times afterwards.
- A file whose times changed is held to its checksums again. Where they still fit (somebody changed its mode, or linked to it),
  what was read meanwhile is read again. Where they do not, the file is damaged for good, and DamagedStoreError names it.
- A page that is gone raises SIGBUS (`process/bus_errors.py`). The handler marks the file as lost and puts zeros in its place,
  so the reader comes to its comparison, and finds that.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import pyarrow as pa

from choline_data.errors import DamagedStoreError
from choline_data.process import bus_errors
from choline_data.process.pages import PAGES

T = TypeVar("T")
_TRIES = 5
_RESTLESS = "it keeps changing while it is read"
_NUMBERS = itertools.count(1)  # of marks and rechecks, in the order in which they happen
Stamp = tuple[int, int, int, int, int]  # device, inode, size, time of change of content, and of anything


class MappedFile:
    """A file as memory. `damaged` makes the error from what is wrong; `recheck` says what is, "" for nothing."""

    def __init__(
        self, path: str, *, damaged: Callable[[str], DamagedStoreError], recheck: Callable[[pa.Buffer], str]
    ) -> None:
        self._path = path
        self._damaged = damaged
        self._recheck = recheck
        self._how = ""
        self._stamp: Stamp | None = stamp(path)  # before it is mapped: what changes from here on is seen
        self._began = self._stamp
        self.rechecked = 0  # the number of the last time that it was held to its checksums again
        with pa.memory_map(path) as file:
            self._region = bus_errors.Region(PAGES.watch(file.read_buffer()))
        self.buffer: pa.Buffer = self._region.buffer

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(self.buffer.size)

    @property
    def lost(self) -> bool:
        """Whether it was found damaged. It stays so: who opens the file anew gets what is there then."""
        return bool(self._how) or self._region.lost

    def replaced(self) -> bool:
        """Whether it is damaged and another file has its name now: a repair puts a sound one there."""
        now = stamp(self._path)
        return self.lost and now is not None and self._began is not None and now[:2] != self._began[:2]

    def unchanged(self) -> bool:
        """Whether it is as it was when it was opened, or last held to its checksums."""
        if self.lost:
            return False
        return self._stamp is None or stamp(self._path) == self._stamp

    def error(self) -> DamagedStoreError:
        """What is raised for a file that is damaged, or never at rest."""
        lost = "it was cut or could not be read while it was in use"
        return self._damaged(self._how or (lost if self.lost else _RESTLESS))

    def condemn(self, how: str) -> DamagedStoreError:
        """Finds it damaged, and makes the error that says so."""
        self._how = self._how or how
        return self.error()

    def hold_to_checksums(self) -> None:
        """Returns where the file has what it should have, whoever touched it; DamagedStoreError otherwise."""
        self.rechecked = next(_NUMBERS)
        self._how = self._how or self._found_wrong()
        if self.lost:
            raise self.error()

    def _found_wrong(self) -> str:
        for _ in range(_TRIES):
            before, now = self._stamp, stamp(self._path)
            here = before is not None and now is not None and now[:2] == before[:2]
            if here and now is not None and now[2] != self.size:
                return f"it has {now[2]} bytes, not {self.size}"
            wrong = self._recheck(self.buffer)
            if wrong:
                return wrong
            if not here:
                # Removed, or another file has its name now. Nobody can open this one any more, and what was read is right.
                self._stamp = None
                return ""
            if stamp(self._path) == now:
                self._stamp = now
                return ""
        return _RESTLESS


def stamp(path: str) -> Stamp | None:
    """What the system says of a file; None where there is none, or it says nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def mark() -> int:
    """What `same` compares: taken before mapped memory is read."""
    bus_errors.watch()
    return next(_NUMBERS)


def same(files: Iterable[MappedFile], since: int) -> bool:
    """Whether what was read of these files since that mark is what they should have."""
    return all(file.unchanged() and file.rechecked < since for file in files)


def steady(read: Callable[[], T], files: Sequence[MappedFile]) -> T:
    """What `read` gives, from files that did not change while it ran; DamagedStoreError where one is damaged.

    `files` are those that it reads; it may fill them in while it runs, each before it reads it.
    """
    if files == ():
        return read()
    for _ in range(_TRIES):
        since = mark()
        try:
            made = read()
        except Exception:
            # Numbers from a file that is being overwritten may lead anywhere: then the file is the fault.
            if same(files, since):
                raise
        else:
            if same(files, since):
                return made
        changed = [file for file in files if not file.unchanged()]
        for file in changed:
            file.hold_to_checksums()
    raise (changed or files)[0].error()
