"""A strict reader of tar streams. Nothing is extracted to disk. Members come in the order of the stream.

CPython's tarfile stops silently at a corrupt header. Here it is an error. A truncated member, a negative size and a single
zero block are errors too. Links, devices, sparse files and names that lead out of the archive are returned with the reason why
they are refused. An archive without an end marker is accepted if its last member is complete.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from choline_data.adapters.reading.names import in_utf8
from choline_data.errors import SourceDamagedError, SourceTooLargeError

BLOCK = 512
MAX_HEADER_BYTES = 1 << 20
MAX_NAME_BYTES = 64 << 10
_ZERO = bytes(BLOCK)


@dataclass(frozen=True)
class Member:
    """A member that is a file, or one that is refused for `reason`. Its content begins at byte `offset`.

    `target` is the path to which a link points, from the root of the archive. It is empty if it leads out of the archive.
    """

    name: str
    offset: int
    size: int
    reason: str = ""
    target: str = ""


class ByteStream(Protocol):
    """A stream that is read only forward."""

    position: int

    def read(self, count: int) -> bytes: ...
    def skip(self, count: int) -> int: ...


class PieceStream:
    """A forward stream over pieces of bytes. It holds at most one piece and the bytes of one `read`."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0
        self.position = 0

    def _some(self, count: int) -> memoryview:
        while self._at >= len(self._piece):
            self._piece = next(self._pieces, b"")
            self._at = 0
            if not self._piece:
                return memoryview(b"")
        piece = memoryview(self._piece)[self._at : self._at + count]
        self._at += len(piece)
        self.position += len(piece)
        return piece

    def read(self, count: int) -> bytes:
        """Returns `count` bytes, fewer only at the end."""
        pieces: list[memoryview] = []
        while count > 0 and (some := self._some(count)):
            pieces.append(some)
            count -= len(some)
        return b"".join(pieces)

    def skip(self, count: int) -> int:
        """Skips `count` bytes. Returns how many bytes there were, which is fewer only at the end."""
        left = count
        while left > 0 and (some := self._some(left)):
            left -= len(some)
        return count - left


class FileStream:
    """A forward stream over a seekable file, which skips by seeking."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)
        self.position = 0

    def read(self, count: int) -> bytes:
        """Returns `count` bytes, fewer only at the end."""
        data = self._file.read(min(count, max(self._size - self.position, 0)))
        self.position += len(data)
        return data

    def skip(self, count: int) -> int:
        """Skips `count` bytes. Returns how many bytes there were, which is fewer only at the end."""
        there = min(count, self._size - self.position)
        self.position += there
        self._file.seek(self.position)
        return there


def is_tar(head: bytes) -> bool:
    """Whether these first bytes are a tar header: they have the `ustar` mark or a correct checksum."""
    return len(head) >= BLOCK and (head[257:262] == b"ustar" or (head[0] != 0 and _checksum_ok(head[:BLOCK])))


def members(stream: ByteStream, name: str) -> Iterator[Member]:
    """Yields the members in order. The caller may `read` up to `size` bytes of the current member; the rest is skipped.

    If the stream is truncated or corrupt, raises SourceDamagedError at the damage, after the members before it.
    """
    long_name, long_link, pax = "", "", dict[str, str]()
    while True:
        at = stream.position
        block = stream.read(BLOCK)
        if not block:
            return
        if block == _ZERO:
            if stream.read(BLOCK) not in (_ZERO, b""):
                raise _damaged(name, at, "a zero block stands alone")
            return
        if len(block) < BLOCK or not _checksum_ok(block):
            raise _damaged(
                name, at, "the header is truncated" if len(block) < BLOCK else "the header checksum is wrong"
            )
        kind, size = block[156:157], _number(block[124:136], name, at)
        if kind in (b"x", b"g", b"L", b"K"):
            body = _small(stream, name, at, size, MAX_HEADER_BYTES if kind in (b"x", b"g") else MAX_NAME_BYTES)
            if kind == b"x":
                pax = _pax(body, name, at)
            elif kind == b"L":
                long_name = _text(body)
            elif kind == b"K":
                long_link = _text(body)
            continue
        if kind == b"S":
            _pass_sparse_maps(stream, block, name, at)
        if "size" in pax:
            if not pax["size"].isdecimal() or len(pax["size"]) > 18:
                raise _damaged(name, at, "the size in its extended header is not a number")
            size = int(pax["size"])
        shown = pax.get("path") or long_name or _name(block)
        reason = _refused(kind, shown, pax)
        if kind in (b"1", b"2", b"3", b"4", b"5", b"6"):
            size = 0
        start = stream.position
        if kind != b"5" and not (shown.endswith("/") and size == 0):
            target = _target(kind, shown, pax.get("linkpath") or long_link, block)
            yield Member(in_utf8(shown), start, size, reason, in_utf8(target))
        long_name, long_link, pax = "", "", {}
        end = start + size + -size % BLOCK
        stream.skip(end - stream.position)
        if stream.position < end:
            raise _damaged(name, at, f"the member {shown!r} is truncated")


def body(stream: ByteStream, member: Member, name: str, limit: int, setting: str = "max_bytes") -> bytes:
    """Returns the content of the member that `members` has just yielded.

    Raises SourceTooLargeError above `limit` bytes, and SourceDamagedError if the member is truncated.
    """
    if member.size > limit:
        # A wrong size is damage; a correct size is too large. The remedies differ, so they are different errors.
        if stream.skip(member.size) < member.size:
            raise _damaged(name, member.offset, f"the member {member.name!r} is truncated")
        raise SourceTooLargeError(
            f"{name}: the member {member.name!r} has {member.size:,} bytes, above {limit:,}.",
            remedy=f"Raise {setting}.",
        )
    data = stream.read(member.size)
    if len(data) < member.size:
        raise _damaged(name, member.offset, f"the member {member.name!r} is truncated")
    return data


def unsafe_name(name: str) -> str:
    """Returns the reason why a member's name is refused, or ""."""
    if not name or "\x00" in name:
        return "its name is empty or holds a NUL"
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return "its name is an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "its name leads out of the archive"
    return ""


_KINDS = {
    b"1": "it is a hard link", b"2": "it is a symbolic link", b"3": "it is a device", b"4": "it is a device",
    b"6": "it is a FIFO", b"S": "it is a sparse file",
}  # fmt: skip


def _refused(kind: bytes, name: str, pax: dict[str, str]) -> str:
    if kind in (b"0", b"\x00", b"7", b"5"):
        sparse = any(key.startswith("GNU.sparse") for key in pax)
        return "it is a sparse file" if sparse else unsafe_name(name)
    return _KINDS.get(kind, f"it is of the unknown type {kind!r}")


def _checksum_ok(block: bytes) -> bool:
    text = block[148:156].strip(b" \x00")
    try:
        stated = int(text, 8)
    except ValueError:
        return False
    return stated == sum(block) - sum(block[148:156]) + 8 * 0x20


def _number(field: bytes, name: str, at: int) -> int:
    if field[0] & 0x80:
        if field[0] == 0xFF or field[0] & 0x40:
            raise _damaged(name, at, "the size is negative")
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    text = field.strip(b" \x00")
    try:
        number = int(text, 8) if text else 0
    except ValueError:
        number = -1
    if number < 0:
        raise _damaged(name, at, "the size is not a number")
    return number


def _name(block: bytes) -> str:
    last = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\x00" else ""
    return f"{prefix}/{last}" if prefix else last


def _text(field: bytes) -> str:
    return field.partition(b"\x00")[0].decode("utf-8", "surrogateescape")


def _target(kind: bytes, name: str, link: str, block: bytes) -> str:
    """Returns the path to which a link points, from the root of the archive; "" if it leads out, or the member is not a link.

    Without `link`, the header block states where it points.
    """
    if kind not in (b"1", b"2"):
        return ""
    return within(posixpath.dirname(name) if kind == b"2" else "", link or _text(block[157:257]))


def within(folder: str, link: str) -> str:
    """Returns the member to which a link in this folder of an archive points; "" if it leads out of the archive."""
    target = posixpath.normpath(posixpath.join(folder, link))
    return "" if not link or unsafe_name(target) else target


def _small(stream: ByteStream, name: str, at: int, size: int, limit: int) -> bytes:
    if size > limit:
        raise SourceTooLargeError(
            f"{name}: the extended header at byte {at} has {size:,} bytes, above {limit:,}.",
            remedy="Pack the archive again.",
        )
    data = stream.read(size)
    stream.skip(-size % BLOCK)
    if len(data) < size:
        raise _damaged(name, at, "the extended header is truncated")
    return data


def _pax(body: bytes, name: str, at: int) -> dict[str, str]:
    values: dict[str, str] = {}
    while body:
        length, _, _ = body.partition(b" ")
        if not length.isdigit() or len(length) > 8 or not 0 < int(length) <= len(body):
            raise _damaged(name, at, "the extended header can't be read")
        record, body = body[len(length) + 1 : int(length) - 1], body[int(length) :]
        key, _, value = record.partition(b"=")
        values[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return values


def _pass_sparse_maps(stream: ByteStream, block: bytes, name: str, at: int) -> None:
    more = block[482:483] == b"\x01"
    while more:
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            raise _damaged(name, at, "the sparse map is truncated")
        more = block[504:505] == b"\x01"


def _damaged(name: str, at: int, what: str) -> SourceDamagedError:
    return SourceDamagedError(f"{name}: {what} (tar header at byte {at}).", remedy="Fetch the archive again.")
