"""Reads the bytes of a source: opens files and archive members, and detects compression by content, not by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import BinaryIO, Protocol

import pyarrow as pa

from choline_data.adapters.reading import plain_files
from choline_data.adapters.reading.plain_files import HEAD_BYTES, compression_of
from choline_data.errors import (
    SourceDamagedError,
    SourceTooLargeError,
)
from choline_data.places.locations import local_path

BLOCK_BYTES = 8 << 20
SKIP_BYTES = 256 << 20


@contextmanager
def open_raw(path: str) -> Iterator[BinaryIO]:
    """Opens the file without decompression. Raises SourceNotFoundError if there is none.

    A path `archive!/place/name`, as `members.listing` returns it, opens a member of a ZIP or tar.
    """
    if _is_member(path):
        from choline_data.adapters.reading import members

        with members.open_member(path) as file:
            yield file
        return
    with plain_files.open_file(path) as file:
        yield file


def _is_member(path: str) -> bool:
    if "!/" not in path:
        return False
    from choline_data.adapters.reading import members

    return members.is_member(path)


def arrow_input(file: BinaryIO, path: str) -> pa.NativeFile:
    """Returns the opened file for pyarrow. For a local file, pyarrow reads it directly, not through Python."""
    local = None if _is_member(path) else local_path(path)
    return pa.OSFile(local) if local is not None else pa.PythonFile(file, "r")


def pieces(path: str, name: str = "", start: int = 0, end: int = -1) -> Iterator[bytes]:
    """Yields the file's decompressed content, in pieces of about 1 MiB. `start` and `end` apply only to an uncompressed file.

    If the stream is truncated or corrupt, yields everything before the damage and then raises SourceDamagedError.
    """
    with open_raw(path) as file:
        yield from plain_files.pieces_of(file, name or path, start, end)


def content(
    path: str, name: str = "", *, limit: int = 512 << 20, what: str = "a file", remedy: str = "Split it."
) -> bytes:
    """Returns the file's whole decompressed content. Raises SourceTooLargeError with this remedy above `limit` bytes."""
    data = bytearray()
    for piece in pieces(path, name):
        data += piece
        if len(data) > limit:
            raise SourceTooLargeError(f"{name or path}: {what} of more than {limit >> 20} MiB.", remedy=remedy)
    return bytes(data)


class Heads(Protocol):
    """Interface: knows the first bytes of files, so that the files need not be opened."""

    def get(self, path: str) -> bytes | None:
        """Returns the first bytes of this file, not decompressed, or None."""
        ...


_HEADS: ContextVar[Heads | None] = ContextVar("heads", default=None)


@contextmanager
def with_heads(heads: Heads) -> Iterator[None]:
    """Context manager: `head` and `raw_head` use the first bytes that `heads` knows."""
    token = _HEADS.set(heads)
    try:
        yield
    finally:
        _HEADS.reset(token)


def _at_hand(path: str) -> bytes | None:
    heads = _HEADS.get()
    return heads.get(path) if heads is not None else None


def head(path: str, limit: int = HEAD_BYTES) -> bytes:
    """Returns the first bytes of the decompressed content. Returns fewer bytes if the file is short or damaged."""
    known = _at_hand(path)
    if known is not None and not compression_of(known):
        return known[:limit]
    data = b""
    try:
        for piece in pieces(path):
            data += piece
            if len(data) >= limit:
                break
    except SourceDamagedError:
        pass
    return data[:limit]


def raw_head(path: str, limit: int = 512) -> bytes:
    """Returns the first bytes of the file, not decompressed."""
    known = _at_hand(path)
    if known is not None:
        return known[:limit]
    with open_raw(path) as file:
        return file.read(limit)


def extension(name: str) -> str:
    """Returns the file name's extension in lower case. Ignores the extension of a compression: "jsonl" for `A.JSONL.gz`."""
    parts = name.rsplit("/", 1)[-1].lower().split(".")[1:]
    while parts and parts[-1] in ("gz", "zst", "zstd", "bz2", "xz", "lz4", "gzip"):
        parts.pop()
    return parts[-1] if parts else ""


def line_blocks(
    path: str,
    name: str = "",
    *,
    start: int = 0,
    end: int = -1,
    max_row_bytes: int = 16 << 20,
    recode: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> Iterator[bytes | int]:
    """Yields the file in blocks of whole lines. For a line above `max_row_bytes`, yields its size in bytes as an int instead.

    With a range, reads the lines whose first byte lies in [start, end). `recode` converts the pieces to UTF-8. If the file
    is damaged, yields the whole lines before the damage and then raises SourceDamagedError.
    """
    waiting: list[bytes] = []  # consecutive pieces that are joined only once
    size = skipped = 0
    stream = recode(_range(path, name, start, end))
    while True:
        try:
            piece = next(stream, b"")
        except SourceDamagedError:
            block, _ = _whole_lines(waiting)
            if block:
                yield block
            raise
        if not piece:
            break
        if skipped:
            at = piece.find(b"\n")
            skipped += at if at >= 0 else len(piece)
            if at < 0:
                if skipped > SKIP_BYTES:
                    raise _endless(name or path, max_row_bytes)
                continue
            yield skipped
            skipped = 0
            piece = piece[at + 1 :]
        seen, size = size, size + len(piece)
        waiting.append(piece)
        if size < BLOCK_BYTES:
            continue
        if seen >= BLOCK_BYTES:  # The earlier pieces have no line end, so only this piece can have one.
            at = piece.find(b"\n")
            if at >= 0 and seen + at > max_row_bytes:
                yield seen + at
                waiting = [piece[at + 1 :]]
                size = len(waiting[0])
                continue
            block, rest = _whole_lines(waiting) if at >= 0 else (b"", waiting)
        else:
            block, rest = _whole_lines(waiting)
        if block:
            yield block
            waiting = rest
            size -= len(block)
        elif size > max_row_bytes:
            skipped, size = size, 0
            waiting = []
    if skipped:
        yield skipped
    elif size:
        yield b"".join(waiting)


def _whole_lines(held: list[bytes]) -> tuple[bytes, list[bytes]]:
    """Returns the pieces up to their last line end as one block, and the remaining pieces."""
    for number in range(len(held) - 1, -1, -1):
        end = held[number].rfind(b"\n") + 1
        if end:
            block = b"".join([*held[:number], memoryview(held[number])[:end]])
            return block, [held[number][end:], *held[number + 1 :]]
    return b"", held


def _endless(name: str, limit: int) -> SourceTooLargeError:
    return SourceTooLargeError(
        f"{name}: a line goes on for over {SKIP_BYTES >> 20} MiB; the limit (max_row_bytes) is {limit:,} bytes.",
        remedy="Is it a file of lines? Name its format with --format.",
    )


def _range(path: str, name: str, start: int, end: int) -> Iterator[bytes]:
    """Yields the bytes of the lines whose first byte lies in [start, end)."""
    at = max(start - 1, 0)
    in_range = start == 0
    for piece in pieces(path, name, at):
        here, at = at, at + len(piece)
        if not in_range:
            cut = piece.find(b"\n")
            if cut < 0:
                continue
            here, piece, in_range = here + cut + 1, piece[cut + 1 :], True
            if end >= 0 and here >= end:
                return
        if end >= 0 and at >= end:
            cut = piece.find(b"\n", max(end - 1 - here, 0))
            if cut >= 0:
                yield piece[: cut + 1]
                return
        if piece:
            yield piece
