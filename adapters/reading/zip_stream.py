"""A strict reader of ZIP archives. `checked` checks the whole central directory before any member is decompressed.

The whole archive is refused if it has encrypted members, NULs in names, members that share bytes, contradictory sizes, or
members that expand by more than 200 : 1 or to more than 1 GiB. Symbolic links and names that lead out of the archive are
returned with the reason why they are refused. Archives within archives are not opened. If a name occurs twice, these are two
members. Bytes before the archive (a self-extractor) are allowed.
"""

from __future__ import annotations

import posixpath
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from choline_data.adapters.reading.tar_stream import unsafe_name, within
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError

MAX_MEMBER_BYTES = 1 << 30
MAX_RATIO = 200
RATIO_FROM_BYTES = 1 << 20
MAX_MEMBERS = 1_000_000
MAX_LINK_BYTES = 4096
NESTED = "an archive within an archive is not opened"
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2", ".7z", ".rar", ".jar")
_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
           OverflowError, UnicodeDecodeError, OSError)  # fmt: skip


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Converts the errors that zipfile raises for a broken archive to a SourceDamagedError that names it."""
    try:
        yield
    except _FAULTS as error:
        raise SourceDamagedError(f"{name}: the ZIP archive is damaged ({error}).", remedy="Fetch it again.") from error


@contextmanager
def opened(file: BinaryIO, name: str) -> Iterator[zipfile.ZipFile]:
    """Opens the archive and reads its directory."""
    with damage(name):
        archive = zipfile.ZipFile(file)
    with archive:
        yield archive


def checked(archive: zipfile.ZipFile, file: BinaryIO, name: str) -> list[tuple[zipfile.ZipInfo, str]]:
    """Returns the members that are not folders, in the directory's order, each with the reason why it is refused, or "".

    Raises if the whole archive is refused, as the module's docstring describes.
    """
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise SourceTooLargeError(
            f"{name} has {len(infos):,} members; the limit is {MAX_MEMBERS:,}.", remedy="Pack it as several archives."
        )
    members: list[tuple[zipfile.ZipInfo, str]] = []
    end = 0
    for info in sorted(infos, key=lambda i: i.header_offset):
        if info.header_offset < end:
            raise SourceFormatError(
                f"{name}: members share the same bytes ({info.filename!r}), as in a ZIP bomb.",
                remedy="Get the data from another place.",
            )
        end = info.header_offset + 30 + info.compress_size
    for info in infos:
        _refuse(info, file, name)
        if not info.is_dir():
            members.append((info, _reason(info)))
    return members


def _refuse(info: zipfile.ZipInfo, file: BinaryIO, name: str) -> None:
    if "\x00" in getattr(info, "orig_filename", info.filename):
        raise SourceFormatError(f"{name}: a member name holds a NUL byte.", remedy="Pack the archive again.")
    if info.flag_bits & 0x1:
        raise SourceFormatError(
            f"{name}: the member {info.filename!r} is encrypted.", remedy="Decrypt the archive first."
        )
    limit = max(info.compress_size * MAX_RATIO, RATIO_FROM_BYTES)
    if info.file_size > MAX_MEMBER_BYTES or info.file_size > limit:
        raise SourceTooLargeError(
            f"{name}: the member {info.filename!r} inflates from {info.compress_size:,} to {info.file_size:,} bytes; "
            f"the limits are {MAX_RATIO} : 1 and {MAX_MEMBER_BYTES:,} bytes (MAX_RATIO, MAX_MEMBER_BYTES).",
            remedy="Unpack it yourself, if you trust it, and add the folder.",
        )
    with damage(name):
        file.seek(info.header_offset)
        local = file.read(30)
        if local[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"there is no header of {info.filename!r} at the stated position")
        flags, packed, size = struct.unpack("<6xH10xII4x", local)
        stated = packed not in (0xFFFFFFFF, info.compress_size) or size not in (0xFFFFFFFF, info.file_size)
        if not flags & 0x8 and stated:
            raise zipfile.BadZipFile(f"the sizes of {info.filename!r} contradict each other")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise zipfile.BadZipFile(f"the sizes of {info.filename!r} contradict each other")


def target_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """Returns the path to which a symbolic link points, from the archive's root; "" if it leads out, or the member is
    not a link.
    """
    if not _is_link(info) or info.file_size > MAX_LINK_BYTES:
        return ""
    try:
        return within(posixpath.dirname(info.filename), archive.read(info).decode("utf-8", "surrogateescape"))
    except _FAULTS:
        return ""


def _is_link(info: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(info.external_attr >> 16)


def _reason(info: zipfile.ZipInfo) -> str:
    if _is_link(info):
        return "it is a symbolic link"
    if "\\" in info.filename and ".." in info.filename:
        return "its name leads out of the archive"
    if info.filename.lower().endswith(_ARCHIVES):
        return NESTED
    return unsafe_name(info.filename)


SMALL_BYTES = 16 << 20


def inflated(file: BinaryIO, at: int, packed: int, crc: int, name: str) -> bytes | None:
    """Decompresses the member whose header is at byte `at`, without the directory.

    Returns None for a member above SMALL_BYTES, or with a compression other than deflate.
    """
    if packed > SMALL_BYTES:
        return None
    with damage(name):
        file.seek(at)
        local = file.read(30)
        magic, method, names, extra = struct.unpack("<4s4xH16xHH", local)
        if magic != b"PK\x03\x04":
            raise zipfile.BadZipFile("no member header at its place")
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return None
        file.seek(names + extra, 1)
        data = file.read(packed)
        if method == zipfile.ZIP_DEFLATED:
            engine = zlib.decompressobj(-15)
            data = engine.decompress(data, SMALL_BYTES)
            if not engine.eof and (engine.unconsumed_tail or len(data) == SMALL_BYTES):
                return None
        if zlib.crc32(data) != crc:
            raise zipfile.BadZipFile("its checksum is wrong")
    return data
