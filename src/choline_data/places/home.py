"""The home stores cards, revisions and runs as plain files under a local path or an fsspec URL.

Files are written once and never changed, except `catalog/HEAD`, which is only a hint, and locks. A damaged file is
replaced by a sound copy. A file appears complete or not at all. The next numbered catalog file is created exclusively:
if two writers try at the same time, one succeeds and the other learns that it did not.
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
from choline_data.process.fault_points import reached

_COMPARED = 8 << 20  # bytes that are compared at a time


def default_home() -> str:
    """Returns `CHOLINE_DATA_HOME`, else `~/.local/share/choline-data` (or below `XDG_DATA_HOME`)."""
    stated = os.environ.get("CHOLINE_DATA_HOME")
    if stated:
        return stated
    return str(Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "choline-data")


class Home:
    """Named immutable objects under one root. Picklable. Opens no file and no connection before the first use."""

    def __init__(self, location: str | os.PathLike[str] | None = None) -> None:
        self.location = check_location(os.fspath(location) if location else default_home()).rstrip("/")
        self.local = not is_url(self.location) or self.location.startswith("file://")
        self._root = self.location.removeprefix("file://") if self.local else ""
        self._fs: Any = None
        self.derived: Any = None  # the quota of data that can be computed again: see store/derived.py
        self.lease: Any = None  # the lease of the writer in this process that uses this `Home` object
        self.holder = ""  # the id of that lease; worker processes of the writer have it too

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
        """Returns the path of an object in the home's file system."""
        if not self.local:
            _ = self.fs
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the object exists now."""
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
        """Context manager: turns an OSError into a HomeError that names the object or the staged file.

        It is a LimitError if the process can't open more files or has no memory left.
        """
        return writing(self.location, name)

    def reading(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Context manager: turns an OSError into a HomeError, like `writing`, but for reads. FileNotFoundError is not
        converted.
        """
        return reading(self.location, name)

    def size(self, name: str) -> int:
        """Returns the size of the object in bytes."""
        try:
            with self.reading(name):
                return os.path.getsize(self.path(name)) if self.local else int(self.fs.size(self.path(name)))
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"The home has no {name}.", remedy="Run `choline-data repair`.") from error

    def read(self, name: str) -> bytes:
        """Returns the content of the object."""
        try:
            with self.reading(name):
                if self.local:
                    return Path(self.path(name)).read_bytes()
                return bytes(self.fs.cat_file(self.path(name)))
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"The home has no {name}.", remedy="Run `choline-data repair`.") from error

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Reads bytes [start, end) of the object, in one ranged read."""
        try:
            with self.reading(name):
                if self.local:
                    with open(self.path(name), "rb", buffering=0) as file:
                        file.seek(start)
                        return file.read(end - start)
                return bytes(self.fs.cat_file(self.path(name), start=start, end=end))
        except FileNotFoundError as error:
            raise SourceNotFoundError(
                f"The home has no {name}.", remedy="Run `choline-data verify` to see all damage."
            ) from error

    def map(
        self, name: str, damaged: Callable[[str], DamagedStoreError], recheck: Callable[[pa.Buffer], str]
    ) -> MappedFile:
        """Maps a local object into memory without reading it. `MappedFile` explains `damaged` and `recheck`."""
        with self.reading(name):
            return MappedFile(self.path(name), damaged=damaged, recheck=recheck)

    def create(self, name: str, content: bytes) -> bool:
        """Creates an object with this content, all at once. Returns False if an object with this name exists; that one
        stays unchanged.

        On a remote file system without conditional writes, a concurrent writer can still overwrite the object.
        """
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
        staged = self._write_staged(content)
        try:
            created = self._link(staged, name)
            reached("object.named")
            return created
        finally:
            _drop(staged)

    def put(self, name: str, content: bytes) -> None:
        """Stores `content` as the object `name`. An existing object with other content is damaged and is replaced.

        Only for objects whose name determines their content. The next catalog file is created with `create` instead.
        """
        with self.writing(name):
            if self._holds(name, content):
                if self.local:
                    self._settle(name)
                return
            if not self.local:
                self.fs.pipe_file(self.path(name), content)
                return
            staged = self._write_staged(content)
            try:
                self._replace(staged, name)
            except BaseException:
                _drop(staged)
                raise

    def _holds(self, name: str, content: bytes) -> bool:
        try:
            return self.exists(name) and self.size(name) == len(content) and self.read(name) == content
        except (OSError, HomeError, SourceNotFoundError):  # the object can't be read, or was removed meanwhile
            return False

    def _replace(self, staged: str, name: str) -> None:
        """Renames a staged file over the object. Readers that have the old file mapped keep reading the old file."""
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
            # Sync the folder even if the object existed: the process that wrote it may have died before it synced the name.
            self._settle(name)
        return True

    def _settle(self, name: str) -> None:
        """Syncs folders so that the name of a local object survives a power cut."""
        folders.settle(os.path.dirname(self.path(name)), self._root)

    def new_staging_path(self) -> str:
        """Returns a new local path for a temporary file. The caller writes the file and passes the path to `adopt`. For
        a local home, the path is on the home's disk.
        """
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
        """Removes the temporary files that an ended process left behind. `pid` is the number of that process."""
        for left in Path(self._staging()).glob(f"{pid}-*"):
            left.unlink(missing_ok=True)

    def adopt(self, staged: str, name: str) -> None:
        """Moves a temporary local file into the home as the object `name`. The object appears complete or not at all.

        If the object exists with the same content, it stays and the temporary file is removed. If it exists with other
        content, it is damaged, because the name determines the content: the temporary file replaces it.
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
                reached("file.synced")
                if same:
                    self._settle(name)
                elif not self._link(staged, name):
                    self._replace(staged, name)
                    return
            elif not same:
                self.fs.put_file(staged, self.path(name))
            reached("file.named")
            os.unlink(staged)

    def _same(self, staged: str, name: str) -> bool:
        """Returns whether the object exists and has the same bytes as the temporary file."""
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

    def _write_staged(self, content: bytes) -> str:
        """Writes and syncs a temporary file with this content, and returns its path.

        Without the sync, a power cut could leave a name without its content.
        """
        staged = self.new_staging_path()
        try:
            with open(staged, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            _drop(staged)
            raise
        reached("object.synced")
        return staged

    def hint(self, name: str, content: bytes) -> None:
        """Replaces a small object that only saves readers work, such as `catalog/HEAD`. Nothing depends on its content."""
        with self.writing(name):
            if not self.local:
                self.fs.pipe_file(self.path(name), content)
                return
            staged = self._write_staged(content)
            try:
                folders.make(os.path.dirname(self.path(name)))
                os.replace(staged, self.path(name))
                reached("hint.replaced")
            finally:
                _drop(staged)

    def remove(self, name: str) -> None:
        """Removes an object or a folder of objects. Does nothing if it does not exist."""
        with self.writing(name):
            if not self.local:
                if self.fs.exists(self.path(name)):
                    self.fs.rm(self.path(name), recursive=True)
            elif os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name))
            elif os.path.exists(self.path(name)):
                os.unlink(self.path(name))

    def names(self, folder: str) -> list[str]:
        """Returns the names of all objects under a folder, sorted. Lists the whole folder, which can be slow in a remote home."""
        if self.local:
            return sorted(os.path.relpath(path, self._root) for path in self._files(folder))
        root = self.path("")
        with self.reading(folder):
            self.fs.invalidate_cache()
            return sorted(p[len(root) :].lstrip("/") for p in self.fs.find(self.path(folder)))

    def _files(self, folder: str) -> Iterator[str]:
        def refused(error: OSError) -> None:
            """Raises an error for a folder that can't be listed: `gc` and `verify` must not treat it as an empty
            folder.
            """
            if not isinstance(error, FileNotFoundError):
                raise error

        with self.reading(folder):
            for at, _, files in os.walk(self.path(folder), onerror=refused):
                yield from (os.path.join(at, file) for file in files)

    def listed(self, folder: str) -> dict[str, tuple[int, float]]:
        """Returns, for each object under a folder, its size in bytes and its last write time in seconds, as the storage
        states them.
        """
        if not self.local:
            root = self.path("")
            with self.reading(folder):
                self.fs.invalidate_cache()
                infos = self.fs.find(self.path(folder), detail=True)
            return {p[len(root) :].lstrip("/"): (int(i.get("size") or 0), _written(i)) for p, i in infos.items()}
        out: dict[str, tuple[int, float]] = {}
        for name in self.names(folder):
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(self.path(name))
                out[name] = (stat.st_size, stat.st_mtime)
        return out

    def modified_time(self, name: str) -> float:
        """Returns the object's last write time in seconds, by the clock of the storage. Raises FileNotFoundError if it is gone."""
        with self.reading(name):
            if self.local:
                return os.stat(self.path(name)).st_mtime
            self.fs.invalidate_cache()
            return _written(self.fs.info(self.path(name)))

    def missing(self, names: Sequence[str]) -> list[str]:
        """Returns those of these objects that do not exist. Lists a remote folder only once for all its objects."""
        if self.local:
            return [name for name in names if not os.path.exists(self.path(name))]
        folders = {name.rpartition("/")[0] for name in names}
        there = {name for folder in sorted(folders) for name in self.names(folder)}
        return [name for name in names if name not in there]


def _drop(staged: str) -> None:
    """Removes a temporary file. Ignores OSError, so that it does not hide the error that is being raised."""
    with contextlib.suppress(OSError):
        os.unlink(staged)


def _written(info: dict[str, Any]) -> float:
    """Returns the last write time, in seconds, from the metadata that a remote file system returns for an object."""
    for key in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        stated = info.get(key)
        if isinstance(stated, str):
            stated = datetime.fromisoformat(stated)
        if isinstance(stated, datetime):
            return stated.timestamp()
        if isinstance(stated, int | float):
            return float(stated)
    raise OSError(f"The storage does not say when {info.get('name', 'an object')} was written.")
