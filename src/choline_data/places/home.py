"""The home: where cards, revisions and runs live as plain files, under a local path or an fsspec URL.

Everything in it is written once and never changed, but for `catalog/HEAD`, which is only a hint, and for locks. A damaged
file is replaced by a sound one. A file appears whole or not at all; the next numbered catalog file is created
exclusively, so of two writers one wins and the other is told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from choline_data.errors import DamagedStoreError, HomeError, SourceNotFoundError
from choline_data.places import folders
from choline_data.places.disk import reading, writing
from choline_data.places.locations import check_location, filesystem, is_url
from choline_data.places.mapped import MappedFile

_COMPARED = 8 << 20  # bytes of two files that are compared at once


def default_home() -> str:
    """`CHOLINE_DATA_HOME`, else `~/.local/share/choline-data` (or below `XDG_DATA_HOME`)."""
    stated = os.environ.get("CHOLINE_DATA_HOME")
    if stated:
        return stated
    return str(Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "choline-data")


class Home:
    """Named immutable objects under one root. Picklable; opens nothing before it is used."""

    def __init__(self, location: str | os.PathLike[str] | None = None) -> None:
        self.location = check_location(os.fspath(location) if location else default_home()).rstrip("/")
        self.local = not is_url(self.location) or self.location.startswith("file://")
        self._root = self.location.removeprefix("file://") if self.local else ""
        self._fs: Any = None
        self.derived: Any = None  # the quota of what can be made again: see store/derived.py
        self.lease: Any = None  # of the writer in this process that uses this very object
        self.holder = ""  # the id of that lease, in this process and in those that work for it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fs": None, "derived": None, "lease": None}

    @property
    def fs(self) -> Any:
        """The fsspec file system of a remote home."""
        if self._fs is None:
            self._fs, self._root = filesystem(self.location)
            self._root = self._root.rstrip("/")
        return self._fs

    def path(self, name: str) -> str:
        """The path of an object, as the home's file system names it."""
        if not self.local:
            _ = self.fs
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such an object now."""
        if not self.local:
            with self.reading(name):
                return bool(self.fs.exists(self.path(name)))
        try:
            with self.reading(name):
                os.stat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def writing(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Turns what the system refuses in the block into a HomeError that names the object, or the staged file."""
        return writing(self.location, name)

    def reading(self, name: str) -> contextlib.AbstractContextManager[None]:
        """The same for reading; FileNotFoundError passes."""
        return reading(self.location, name)

    def size(self, name: str) -> int:
        """The object's size in bytes."""
        try:
            with self.reading(name):
                return os.path.getsize(self.path(name)) if self.local else int(self.fs.size(self.path(name)))
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"The home has no {name}.", remedy="Run `choline-data repair`.") from error

    def read(self, name: str) -> bytes:
        """The whole object."""
        try:
            with self.reading(name):
                if self.local:
                    return Path(self.path(name)).read_bytes()
                return bytes(self.fs.cat_file(self.path(name)))
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"The home has no {name}.", remedy="Run `choline-data repair`.") from error

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of the object: one ranged read."""
        try:
            with self.reading(name):
                if self.local:
                    with open(self.path(name), "rb", buffering=0) as file:
                        file.seek(start)
                        return file.read(end - start)
                return bytes(self.fs.cat_file(self.path(name), start=start, end=end))
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"The home has no {name}.", remedy="`choline-data verify` tells more.") from error

    def map(
        self, name: str, damaged: Callable[[str], DamagedStoreError], recheck: Callable[[pa.Buffer], str]
    ) -> MappedFile:
        """A local object as memory, mapped and not read; `damaged` and `recheck` are those of `MappedFile`."""
        with self.reading(name):
            return MappedFile(self.path(name), damaged=damaged, recheck=recheck)

    def create(self, name: str, content: bytes) -> bool:
        """Creates the object whole; False where there is one of that name already, which stays as it is."""
        with self.writing(name):
            return self._created(name, content) if self.local else self._put(name, content)

    def _put(self, name: str, content: bytes) -> bool:
        if self.fs.exists(self.path(name)):
            return False
        try:
            self.fs.pipe_file(self.path(name), content, mode="create")
        except FileExistsError:
            return False
        except TypeError:  # a file system without conditional writes
            self.fs.pipe_file(self.path(name), content)
        return True

    def _created(self, name: str, content: bytes) -> bool:
        staged = self.staged()
        try:
            with open(staged, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return self._link(staged, name)
        finally:
            _drop(staged)

    def put(self, name: str, content: bytes) -> None:
        """Makes `content` the object `name`. An object of that name with other content is damaged, and is replaced whole.

        For objects whose content follows from their name. The next catalog file is created with `create` instead.
        """
        with self.writing(name):
            if self._holds(name, content):
                if self.local:
                    self._settle(name)
                return
            if not self.local:
                self.fs.pipe_file(self.path(name), content)
                return
            staged = self.staged()
            try:
                with open(staged, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                self._replace(staged, name)
            except BaseException:
                _drop(staged)
                raise

    def _holds(self, name: str, content: bytes) -> bool:
        try:
            return self.exists(name) and self.size(name) == len(content) and self.read(name) == content
        except (OSError, HomeError, SourceNotFoundError):  # it can't be read, or has just gone
            return False

    def _replace(self, staged: str, name: str) -> None:
        """Renames a staged file over the object. A reader that has the old file mapped keeps the old file."""
        target = self.path(name)
        folders.make(os.path.dirname(target))
        os.replace(staged, target)
        self._settle(name)

    def _link(self, staged: str, name: str) -> bool:
        target = self.path(name)
        folders.make(os.path.dirname(target))
        try:
            os.link(staged, target)
        except FileExistsError:
            return False
        finally:
            self._settle(name)  # also of one that is there: its writer may have died before it was settled
        return True

    def _settle(self, name: str) -> None:
        """Makes the name of a local object survive a power cut."""
        folders.settle(os.path.dirname(self.path(name)), self._root)

    def staged(self) -> str:
        """A fresh local path for a file to be written and then `adopt`ed; on the home's own disk where that is local."""
        folder = self._staging()
        with self.writing(folder):
            folders.make(folder, mode=0o700)
        return os.path.join(folder, f"{os.getpid()}-{self.holder or 'none'}-{uuid.uuid4().hex}")

    def _staging(self) -> str:
        if self.local:
            return self.path("staging")
        return os.path.join(
            os.environ.get("TMPDIR", "/tmp"), f"choline-data-{os.getuid() if hasattr(os, 'getuid') else os.getlogin()}"
        )

    def drop_staged(self, pid: int) -> None:
        """Removes what a process that has ended left staged, wherever it was when it was ended."""
        for left in Path(self._staging()).glob(f"{pid}-*"):
            left.unlink(missing_ok=True)

    def adopt(self, staged: str, name: str) -> None:
        """Makes a staged local file the object `name`, whole.

        Where an object of that name has the same content, it stays and the staged file goes. One with other content is
        damaged, because the name says what the content is: the staged file takes its place.
        """
        with self.writing(name):
            same = self._same(staged, name)
            if self.local:
                fd = os.open(staged, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
                os.chmod(staged, 0o444)
                if same:
                    self._settle(name)
                elif not self._link(staged, name):
                    self._replace(staged, name)
                    return
            elif not same:
                self.fs.put_file(staged, self.path(name))
            os.unlink(staged)

    def _same(self, staged: str, name: str) -> bool:
        """Whether the object is there and has the bytes of the staged file."""
        size = os.path.getsize(staged)
        try:
            if not self.exists(name) or self.size(name) != size:
                return False
            with open(staged, "rb") as file:
                for start in range(0, size, _COMPARED):
                    wanted = file.read(_COMPARED)
                    if self.read_range(name, start, start + len(wanted)) != wanted:
                        return False
        except (OSError, HomeError, SourceNotFoundError):
            return False
        return True

    def hint(self, name: str, content: bytes) -> None:
        """Replaces a small object that is only a hint."""
        with self.writing(name):
            if not self.local:
                self.fs.pipe_file(self.path(name), content)
                return
            staged = self.staged()
            try:
                with open(staged, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())  # else a power cut may leave the name without its bytes
                folders.make(os.path.dirname(self.path(name)))
                os.replace(staged, self.path(name))
            finally:
                _drop(staged)

    def remove(self, name: str) -> None:
        """Removes the object, or the folder of objects; nothing where there is none."""
        with self.writing(name):
            if not self.local:
                if self.fs.exists(self.path(name)):
                    self.fs.rm(self.path(name), recursive=True)
            elif os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name))
            elif os.path.exists(self.path(name)):
                os.unlink(self.path(name))

    def names(self, folder: str) -> list[str]:
        """The names under a folder, sorted. Only `gc` and `verify` list; serving never does."""
        if self.local:
            return sorted(os.path.relpath(path, self._root) for path in self._files(folder))
        root = self.path("")
        with self.reading(folder):
            self.fs.invalidate_cache()
            return sorted(p[len(root) :].lstrip("/") for p in self.fs.find(self.path(folder)))

    def _files(self, folder: str) -> Iterator[str]:
        def refused(error: OSError) -> None:
            """A folder that can't be listed is an error: `gc` and `verify` must not take it for an empty one."""
            if not isinstance(error, FileNotFoundError):
                raise error

        with self.reading(folder):
            for at, _, files in os.walk(self.path(folder), onerror=refused):
                yield from (os.path.join(at, file) for file in files)

    def listed(self, folder: str) -> dict[str, tuple[int, float]]:
        """The size and the time of the last write of every object under a folder, as the storage states them."""
        if not self.local:
            root = self.path("")
            with self.reading(folder):
                self.fs.invalidate_cache()
                found = self.fs.find(self.path(folder), detail=True)
            return {p[len(root) :].lstrip("/"): (int(i.get("size") or 0), _written(i)) for p, i in found.items()}
        out: dict[str, tuple[int, float]] = {}
        for name in self.names(folder):
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(self.path(name))
                out[name] = (stat.st_size, stat.st_mtime)
        return out

    def modified(self, name: str) -> float:
        """When the object was last written, in seconds, by the clock of the storage. FileNotFoundError: it is gone."""
        with self.reading(name):
            if self.local:
                return os.stat(self.path(name)).st_mtime
            self.fs.invalidate_cache()
            return _written(self.fs.info(self.path(name)))

    def missing(self, names: Sequence[str]) -> list[str]:
        """Which of these objects are not there. A remote folder is listed once, however many are in it."""
        if self.local:
            return [name for name in names if not os.path.exists(self.path(name))]
        folders = {name.rpartition("/")[0] for name in names}
        there = {name for folder in sorted(folders) for name in self.names(folder)}
        return [name for name in names if name not in there]


def _drop(staged: str) -> None:
    """Removes a staged file, also after a fault: that fault is the one to report."""
    with contextlib.suppress(OSError):
        os.unlink(staged)


def _written(info: dict[str, Any]) -> float:
    """The time of the last write in what a remote file system says about an object."""
    for key in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        stated = info.get(key)
        if isinstance(stated, str):
            stated = datetime.fromisoformat(stated)
        if isinstance(stated, datetime):
            return stated.timestamp()
        if isinstance(stated, int | float):
            return float(stated)
    raise OSError(f"The storage does not say when {info.get('name', 'an object')} was written.")
