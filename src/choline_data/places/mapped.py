"""Maps files of a home into memory safely: if a file changes while it is read, the reader gets an error, not wrong rows.

While streams read a mapped file, it can be truncated or overwritten, or its disk can fail. These rules prevent wrong rows:

- Code reads mapped memory through `steady`, or calls `same` after the read. It returns the values only after this check
  succeeds. The operating system changes a file's times before it changes its bytes. A reader that saw changed bytes
  therefore sees changed times afterwards.
- If a file's times changed, its checksums are verified again. If they match (for example, somebody changed its mode or
  linked to it), the read is repeated. If they do not match, the file counts as damaged from then on, and
  DamagedStoreError names it.
- Reading a page that is gone raises SIGBUS (`process/bus_errors.py`). The handler marks the file as lost and maps zeros in
  its place. The read then finishes, and the check after it fails.
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
from choline_data.process.read_ahead import fetch

T = TypeVar("T")
_TRIES = 5
_RESTLESS = "it keeps changing while it is read"
_NUMBERS = itertools.count(1)  # numbers for marks and rechecks, in the order in which they happen
Stamp = tuple[int, int, int, int, int]  # device, inode, size, mtime in ns, ctime in ns


class MappedFile:
    """A file mapped into memory.

    `recheck` verifies the content's checksums and returns a description of the fault, or "" if there is none. `damaged`
    makes the error from such a description.
    """

    def __init__(
        self, path: str, *, damaged: Callable[[str], DamagedStoreError], recheck: Callable[[pa.Buffer], str]
    ) -> None:
        self._path = path
        self._damaged = damaged
        self._recheck = recheck
        self._how = ""
        self._stamp: Stamp | None = stamp(path)  # read before the file is mapped, so that no later change is missed
        self._began = self._stamp
        self._looks = os.access(path, os.W_OK)  # without write permission, Linux does not say which pages are in memory
        self.rechecked = 0  # the number, from `_NUMBERS`, of the last recheck
        with pa.memory_map(path) as file:
            self._region = bus_errors.Region(PAGES.watch(file.read_buffer()))
        self.buffer: pa.Buffer = self._region.buffer

    @property
    def size(self) -> int:
        """The size in bytes."""
        return int(self.buffer.size)

    def fetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Asks the system to read these ranges (offset, length) from the disk at once. Call this before the bytes are read."""
        start = self.buffer.address
        fetch(((start + offset, length) for offset, length in spans), look=self._looks)

    @property
    def lost(self) -> bool:
        """Whether the file was found to be damaged. This never becomes False again. To read a repaired file, open it
        again.
        """
        return bool(self._how) or self._region.lost

    def replaced(self) -> bool:
        """Whether this file is damaged and another file now has its name. A repair puts a sound file there."""
        now = stamp(self._path)
        return self.lost and now is not None and self._began is not None and now[:2] != self._began[:2]

    def unchanged(self) -> bool:
        """Whether the file is unchanged since it was opened or last rechecked."""
        if self.lost:
            return False
        return self._stamp is None or stamp(self._path) == self._stamp

    def error(self) -> DamagedStoreError:
        """Returns the error for a file that is damaged or that keeps changing."""
        fault = "it was cut or could not be read while it was in use"
        return self._damaged(self._how or (fault if self.lost else _RESTLESS))

    def condemn(self, how: str) -> DamagedStoreError:
        """Marks the file as damaged and returns the error for it."""
        self._how = self._how or how
        return self.error()

    def hold_to_checksums(self) -> None:
        """Verifies the file's checksums again. Raises DamagedStoreError if they do not match or the file keeps changing."""
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
                # The file was removed or replaced. No new writer can open it, and its checksums match.
                self._stamp = None
                return ""
            if stamp(self._path) == now:
                self._stamp = now
                return ""
        return _RESTLESS


def stamp(path: str) -> Stamp | None:
    """Returns the identity, size and times of a file. None if it does not exist or can't be examined."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def mark() -> int:
    """Returns a number to pass to `same`. Call this before mapped memory is read."""
    bus_errors.watch()
    return next(_NUMBERS)


def same(files: Iterable[MappedFile], since: int) -> bool:
    """Returns whether everything read from these files since the mark is valid: no file has changed, and none was
    rechecked.

    `since` is the number that `mark` returned before the read.
    """
    return all(file.unchanged() and file.rechecked < since for file in files)


def steady(read: Callable[[], T], files: Sequence[MappedFile]) -> T:
    """Returns the result of `read` once no file changed while it ran. Raises DamagedStoreError if a file is damaged.

    If a file changed but its checksums match, `read` runs again. `files` are the files that it reads. `read` may add each
    file to `files` itself, before it reads from that file.
    """
    if files == ():
        return read()
    for _ in range(_TRIES):
        since = mark()
        try:
            result = read()
        except Exception:
            # `read` may raise any exception if it reads wrong numbers from a file that is being overwritten. If the file has
            # changed, the file is the cause, so the exception is dropped and `read` runs again.
            if same(files, since):
                raise
        else:
            if same(files, since):
                return result
        changed = [file for file in files if not file.unchanged()]
        for file in changed:
            file.hold_to_checksums()
    raise (changed or files)[0].error()
