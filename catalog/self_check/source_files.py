"""Opens source files for the self-check, without the code of the adapters. Each archive is opened once and read in order."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from choline_data.places.locations import local_path

HEAD_BYTES = 4 << 20
TAIL_BYTES = 256 << 10
CELLS_BYTES = 1 << 20  # a table file of at most this many bytes is read whole
HELD_BYTES = 64 << 20  # a member of a compressed tar above this size is not read
_STEP = 1 << 20
_BLOCK = 512
_HEADERS = 3 * _BLOCK  # a long or non-ASCII name is in two additional blocks before the header
_MEMBER = re.compile(r"^(?P<archive>.*?)!/(?P<place>\d+)(?P<tar>\+(?P<size>\d+))?[0-9@+]*/(?P<name>.+)$", re.DOTALL)


def is_local(path: str) -> bool:
    """Whether the file, or the archive that holds it, is on this machine."""
    return local_path(path.partition("!/")[0]) is not None


def _plain(raw: IO[bytes]) -> IO[bytes]:
    """Returns the decompressed content of a file, or the file itself if it is not compressed."""
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if head.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(raw)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast(IO[bytes], pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))
    return raw


class _Tar:
    """A tar, compressed or not. A compressed one is decompressed once, as long as its members are read in order."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._raw = open(self._path, "rb")  # noqa: SIM115 - `close` closes it
        self._file = _plain(self._raw)
        self._at = 0
        self._last = b""  # the last bytes before `_at`

    def close(self) -> None:
        self._file.close()
        self._raw.close()

    def member(self, place: int, size: int, name: str) -> IO[bytes]:
        """Returns the member whose content begins at byte `place`. Raises KeyError if its header has another name or size."""
        if self._file is not self._raw and size > HELD_BYTES:
            raise OSError(f"{name} is too large to be held in memory")
        before = self._read(max(place - _HEADERS, 0), min(place, _HEADERS))
        whole = len(before) == _HEADERS and before[156:157] in (b"x", b"L")
        with tarfile.open(fileobj=io.BytesIO(before if whole else before[-_BLOCK:]), mode="r:") as archive:
            header = archive.next()
        if header is None or header.name != name or header.size != size:
            raise KeyError(name)
        if self._file is self._raw:
            return cast(IO[bytes], io.BufferedReader(_Range(self._raw, place, size)))
        return io.BytesIO(self._read(place, size))

    def _read(self, place: int, size: int) -> bytes:
        if self._file is self._raw:
            self._raw.seek(place)
            return self._raw.read(size)
        if place < self._at - len(self._last):
            self.close()
            self._open()
        data = self._last[max(len(self._last) - (self._at - place), 0) :] if place < self._at else b""
        while self._at < place:
            self._more(min(_STEP, place - self._at))
        while len(data) < size:
            data += self._more(size - len(data))
        return data[:size]

    def _more(self, size: int) -> bytes:
        """Reads up to `size` more bytes of the decompressed content."""
        data = self._file.read(size)
        if not data:
            raise EOFError(self._path)
        self._at += len(data)
        self._last = (self._last + data)[-_HEADERS:] if len(data) < _HEADERS else data[-_HEADERS:]
        return data


class _Range(io.RawIOBase):
    """A file object for a byte range of a file."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._start + self._at)
        data = self._file.read(min(len(buffer), max(self._size - self._at, 0)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Zip:
    """A ZIP archive whose members are opened by number."""

    def __init__(self, path: str) -> None:
        self._file = zipfile.ZipFile(path)
        self._infos = self._file.infolist()

    def close(self) -> None:
        self._file.close()

    def member(self, number: int, name: str) -> IO[bytes]:
        """Returns the member with this number. Raises KeyError if it has another name."""
        info = self._infos[number]
        if info.filename != name:
            raise KeyError(name)
        return self._file.open(info)


class SourceFiles:
    """The files of a source. Keeps the archive open that it read last."""

    def __init__(self) -> None:
        self._path = ""
        self._archive: _Tar | _Zip | None = None

    def __enter__(self) -> SourceFiles:
        return self

    def __exit__(self, *error: object) -> None:
        if self._archive is not None:
            self._archive.close()

    @contextmanager
    def opened(self, path: str) -> Iterator[IO[bytes]]:
        """Opens the decompressed content of a local file or of an archive's member."""
        with ExitStack() as stack:
            match = _MEMBER.match(path)
            raw = self._member(match) if match else Path(local_path(path) or "").open("rb")  # noqa: SIM115
            stack.enter_context(raw)
            plain = _plain(raw)
            if plain is not raw:
                stack.enter_context(plain)
            yield plain

    def _member(self, match: re.Match[str]) -> IO[bytes]:
        path = local_path(match["archive"]) or ""
        if path != self._path:
            if self._archive is not None:
                self._archive.close()
                self._archive = None
            self._archive = _Tar(path) if match["tar"] else _Zip(path)
            self._path = path
        if isinstance(self._archive, _Tar):
            return self._archive.member(int(match["place"]), int(match["size"]), match["name"])
        assert self._archive is not None
        return self._archive.member(int(match["place"]), match["name"])

    def head(self, path: str, limit: int = HEAD_BYTES) -> tuple[bytes, bool]:
        """Returns the first bytes, and whether they are the whole content."""
        with self.opened(path) as file:
            data = file.read(limit + 1)
        return data[:limit], len(data) <= limit

    def last_line(self, path: str) -> bytes:
        """Returns the last non-empty line of an uncompressed file. Reads only the end of the file; b"" if no line begins there."""
        if "!/" in path:
            return b""
        with open(local_path(path) or "", "rb") as file:
            if file.read(3)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5", b"\x04\x22"):
                return b""
            size = file.seek(0, io.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            _, newline, line = file.read().rstrip(b"\r\n").rpartition(b"\n")
        return line if newline else b""
