"""Treats archive members as files of a source: lists them, and opens them by a path. Never extracts them to disk.

The path of a member is `archive!/place/name`. The place is `offset+size` in a tar, and `number@header+packed+crc` in a
ZIP. So a member can be opened without a scan of the archive. Exceptions: a compressed tar is decompressed up to the member,
and for a large ZIP member the directory is read.
"""

from __future__ import annotations

import io as stdio
import os
import posixpath
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, cast

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import plain_files, tar_stream, zip_stream
from choline_data.adapters.reading.known.format_table import is_zip_document
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError

MAX_TAR_MEMBERS = 2_000_000
MAX_BUFFER_BYTES = 256 << 20
_MEMBER = re.compile(
    r"^(?P<archive>.*?)!/(?P<place>\d+)(?:\+(?P<size>\d+)|@(?P<at>\d+)\+(?P<packed>\d+)\+(?P<crc>\d+))/(?P<name>.+)$",
    re.DOTALL,
)


def is_member(path: str) -> bool:
    """Whether the path is that of an archive member."""
    return _MEMBER.match(path) is not None


def is_archive(file: SourceFile) -> str:
    """Returns "zip", "tar" or "", by the first bytes, or else by the name. A ZIP that is one document (a workbook) is
    no archive.
    """
    if is_member(file.path):
        return ""  # an archive within an archive is not opened
    head = plain_files.raw_head(file.path)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "" if is_zip_document(head, file.name.rpartition(".")[2].lower()) else "zip"
    if plain_files.compression_of(head):
        head = plain_files.head(file.path, tar_stream.BLOCK)
    if tar_stream.is_tar(head):
        return "tar"
    suffix = file.name.lower()
    if suffix.endswith((".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")):
        return "tar"
    return "zip" if suffix.endswith(".zip") else ""


@dataclass(frozen=True)
class Listed:
    """A member of an archive. If it is not read, `reason` says why. `refused` says whether this loses content.

    A link to another member and an archive within the archive are skipped, but do not count as refused.
    """

    file: SourceFile
    reason: str = ""
    refused: bool = False


def listing(file: SourceFile) -> Sequence[Listed]:
    """Returns the members of an archive that are not folders, in the archive's order.

    The last listings of local archives are kept, because a compressed tar is decompressed for each one.
    """
    try:
        state = os.stat(file.path)
    except OSError:
        return _listed(file)
    return _kept_listing(file, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=2)
def _kept_listing(file: SourceFile, state: tuple[int, ...]) -> Sequence[Listed]:
    return _listed(file)


def _listed(file: SourceFile) -> tuple[Listed, ...]:
    members = _zip_listing(file) if is_archive(file) == "zip" else _tar_listing(file)
    names = {_name_within(member) for member, _, _ in members} if any(target for _, _, target in members) else set()
    folders = {folder for name in names for folder in _folders_of(name)}
    listed = []
    for member, reason, target in members:
        if target in names or target in folders:
            listed.append(Listed(member, f"{reason} to {target}"))
        else:
            listed.append(Listed(member, reason, bool(reason) and reason != zip_stream.NESTED))
    return tuple(listed)


def _zip_listing(file: SourceFile) -> list[tuple[SourceFile, str, str]]:
    with plain_files.open_file(file.path) as raw, zip_stream.opened(raw, file.name) as archive:
        place = {id(info): at for at, info in enumerate(archive.infolist())}
        return [
            (
                _member(file, _zip_place(info, place[id(info)]), info.filename, info.file_size),
                reason,
                zip_stream.target_of(archive, info),
            )
            for info, reason in zip_stream.checked(archive, raw, file.name)
        ]


def _tar_listing(file: SourceFile) -> list[tuple[SourceFile, str, str]]:
    listed: list[tuple[SourceFile, str, str]] = []
    with tar_members(file) as (walk, _):
        for member in walk:
            place = f"{member.offset}+{member.size}"
            listed.append((_member(file, place, member.name, member.size), member.reason, member.target))
            if len(listed) > MAX_TAR_MEMBERS:
                raise SourceTooLargeError(
                    f"{file.name} has more than {MAX_TAR_MEMBERS:,} members.", remedy="Pack it as several archives."
                )
    return listed


def _name_within(member: SourceFile) -> str:
    return posixpath.normpath(member.name.rpartition("!/")[2])


def _folders_of(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name
    yield "."


def _zip_place(info: zipfile.ZipInfo, number: int) -> str:
    return f"{number}@{info.header_offset}+{info.compress_size}+{info.CRC}"


def _member(file: SourceFile, place: str, name: str, size: int) -> SourceFile:
    return SourceFile(f"{file.path}!/{place}/{name}", f"{file.name}!/{name}", size)


@contextmanager
def tar_members(file: SourceFile) -> Iterator[tuple[Iterator[tar_stream.Member], tar_stream.ByteStream]]:
    """Returns the members of a tar, compressed or not, and the stream from which their content is read."""
    with ExitStack() as stack:
        stream: tar_stream.ByteStream
        if plain_files.compression_of(plain_files.raw_head(file.path)):
            stream = tar_stream.PieceStream(plain_files.file_pieces(file.path, file.name))
        else:
            stream = tar_stream.FileStream(stack.enter_context(plain_files.open_file(file.path)))
        yield tar_stream.members(stream, file.name), stream


@contextmanager
def open_member(path: str) -> Iterator[BinaryIO]:
    """Opens the member as a seekable file.

    Raises SourceTooLargeError for a member of a compressed tar above MAX_BUFFER_BYTES, because it is held in memory.
    """
    match = _MEMBER.match(path)
    if match is None:
        raise SourceFormatError(f"{path} names no member of an archive.", remedy="List the archive again.")
    archive, place, size = match["archive"], int(match["place"]), match["size"]
    if size == "0":
        yield stdio.BytesIO(b"")
        return
    with plain_files.open_file(archive) as raw:
        if size is None:
            at, packed, crc = int(match["at"]), int(match["packed"]), int(match["crc"])
            small = zip_stream.inflated(raw, at, packed, crc, f"{archive}!/{match['name']}")
            if small is not None:
                yield stdio.BytesIO(small)
                return
            with zip_stream.opened(raw, archive) as zipped:
                info = zipped.infolist()[place]
                with zipped.open(info) as member:
                    yield cast(BinaryIO, member)
            return
        if not plain_files.compression_of(raw.read(8)):
            yield cast(BinaryIO, stdio.BufferedReader(_Window(raw, place, int(size)), plain_files.READ_BYTES))
            return
    if int(size) > MAX_BUFFER_BYTES:
        raise SourceTooLargeError(
            f"{archive}: {match['name']!r} has {int(size):,} bytes in a compressed tar, above {MAX_BUFFER_BYTES:,}.",
            remedy="Decompress the tar; a plain one is read in place.",
        )
    stream = tar_stream.PieceStream(plain_files.file_pieces(archive))
    stream.skip(place)
    yield stdio.BytesIO(stream.read(int(size)))


class _Window(stdio.RawIOBase):
    """A file object for a byte range of a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        want = min(len(buffer), max(self._size - self._at, 0))
        self._file.seek(self._start + self._at)
        data = self._file.read(want)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def contents(
    files: Sequence[SourceFile], limit: int, *, inflate: bool = True
) -> Iterator[tuple[SourceFile, bytes | None]]:
    """Yields each file with its bytes, or None if it is larger than `limit` bytes.

    Opens an archive once for consecutive members of it. `inflate` decompresses files such as `a.txt.gz`.
    """
    at = 0
    while at < len(files):
        match = _MEMBER.match(files[at].path)
        if match is None:
            yield files[at], _whole(files[at], limit, inflate)
            at += 1
            continue
        end = at
        while end < len(files) and files[end].path.startswith(match["archive"] + "!/"):
            end += 1
        read = _zip_contents if match["size"] is None else _tar_contents
        yield from read(match["archive"], files[at:end], limit)
        at = end


def _whole(file: SourceFile, limit: int, inflate: bool) -> bytes | None:
    if file.size > limit and not inflate:
        return None
    parts_read: list[bytes] = []
    if inflate:
        for piece in plain_files.file_pieces(file.path, file.name):
            parts_read.append(piece)
            limit -= len(piece)
            if limit < 0:
                return None
        return b"".join(parts_read)
    with plain_files.open_file(file.path) as raw:
        data = raw.read(limit + 1)
    return data if len(data) <= limit else None


class MemberHeads:
    """The first bytes of members. The first call of `get` reads those of all members in one pass.

    Otherwise a compressed tar would be decompressed from its start for each member. They use at most `budget` bytes in all.
    """

    def __init__(self, files: Sequence[SourceFile], budget: int = 64 << 20) -> None:
        self._files = files
        self._limit = min(plain_files.HEAD_BYTES, budget // max(len(files), 1))
        self._heads: dict[str, bytes] | None = None

    def get(self, path: str) -> bytes | None:
        """Returns the first bytes of the member. None if it is not among these members or is damaged."""
        if self._heads is None:
            self._heads = dict(self._read())
        return self._heads.get(path)

    def _read(self) -> Iterator[tuple[str, bytes]]:
        by_archive: dict[str, list[re.Match[str]]] = {}
        for file in self._files:
            match = _MEMBER.match(file.path)
            if match is not None:
                by_archive.setdefault(match["archive"], []).append(match)
        for path, members in by_archive.items():
            # The code that reads the damaged member later raises the error.
            with suppress(SourceDamagedError):
                yield from (_tar_heads if members[0]["size"] else _zip_heads)(path, members, self._limit)


def _zip_heads(path: str, found: Sequence[re.Match[str]], limit: int) -> Iterator[tuple[str, bytes]]:
    with plain_files.open_file(path) as raw, zip_stream.opened(raw, path) as archive:
        infos = archive.infolist()
        for match in found:
            with zip_stream.damage(path), archive.open(infos[int(match["place"])]) as member:
                yield match[0], member.read(limit)


def _tar_heads(path: str, found: Sequence[re.Match[str]], limit: int) -> Iterator[tuple[str, bytes]]:
    with plain_files.open_file(path) as raw:
        stream: tar_stream.ByteStream
        packed = plain_files.compression_of(raw.read(8))
        stream = tar_stream.PieceStream(plain_files.file_pieces(path)) if packed else tar_stream.FileStream(raw)
        for match in sorted(found, key=lambda m: int(m["place"])):
            stream.skip(int(match["place"]) - stream.position)
            yield match[0], stream.read(min(limit, int(match["size"])))


def _zip_contents(path: str, files: Sequence[SourceFile], limit: int) -> Iterator[tuple[SourceFile, bytes | None]]:
    with plain_files.open_file(path) as raw, zip_stream.opened(raw, path) as archive:
        infos = archive.infolist()
        for file in files:
            info = infos[int(_place(file)[0])]
            if info.file_size > limit:
                yield file, None
                continue
            with zip_stream.damage(file.name):
                data = archive.read(info)
            yield file, data


def _tar_contents(path: str, files: Sequence[SourceFile], limit: int) -> Iterator[tuple[SourceFile, bytes | None]]:
    with plain_files.open_file(path) as raw:
        packed = plain_files.compression_of(raw.read(8))
        ordered = list(files)
        stream = tar_stream.PieceStream(plain_files.file_pieces(path)) if packed else None
        for file in ordered:
            offset, size = (int(n) for n in _place(file))
            if size > limit:
                yield file, None
                continue
            if stream is None:
                raw.seek(offset)
                data = raw.read(size)
            else:
                if offset < stream.position:
                    stream = tar_stream.PieceStream(plain_files.file_pieces(path))
                stream.skip(offset - stream.position)
                data = stream.read(size)
            if len(data) < size:
                raise SourceDamagedError(f"{file.name}: the member is truncated.", remedy="Fetch the archive again.")
            yield file, data


def _place(file: SourceFile) -> tuple[str, str]:
    match = _MEMBER.match(file.path)
    if match is None:
        raise SourceFormatError(f"{file.name} is not a member of an archive.", remedy="List the archive again.")
    return match["place"], match["size"] or "0"
