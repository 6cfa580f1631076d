"""Opens local or remote files and decompresses them in pieces. Does not handle archives."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa

from choline_data.errors import (
    MissingDependencyError,
    SourceDamagedError,
    SourceNotFoundError,
)
from choline_data.places.apart import note
from choline_data.places.downloads import open_location

HEAD_BYTES = 64 << 10


READ_BYTES = 1 << 20


_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)


def compression_of(head: bytes) -> str:
    """Returns the compression that these first bytes of a file indicate: "gzip", "zstd", "bz2", "xz", "lz4" or ""."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def _decompressed(file: BinaryIO, kind: str, name: str) -> Iterator[bytes]:
    try:
        if kind == "zstd":
            # This uses Arrow's decompressor, because the zstandard package ends a truncated stream without an error.
            with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as zstd:
                while piece := zstd.read(READ_BYTES):
                    yield piece
            return
        if kind == "lz4":
            try:
                import lz4.frame
            except ModuleNotFoundError as error:
                raise MissingDependencyError("lz4", "Reading lz4") from error
            with lz4.frame.open(file, "rb") as lz:
                while piece := lz.read(READ_BYTES):
                    yield piece
            return
        make: dict[str, Callable[[], Any]] = {
            "gzip": lambda: zlib.decompressobj(31),
            "bz2": bz2.BZ2Decompressor,
            "xz": lzma.LZMADecompressor,
        }
        engine = make[kind]()
        pending = b""
        while True:
            block = pending or file.read(READ_BYTES)
            pending = b""
            if not block:
                if engine is not None and not engine.eof:
                    raise SourceDamagedError(
                        f"{name}: the {kind} stream is truncated, at byte {file.tell():,}.",
                        remedy="Fetch the file again.",
                    )
                return
            if engine is None or engine.eof:
                block = block.lstrip(b"\x00") if kind == "gzip" else block
                if not block:
                    continue
                engine = make[kind]()
            piece = engine.decompress(block, READ_BYTES)
            if piece:
                yield piece
            # bz2 and xz keep unprocessed input themselves; zlib returns it as `unconsumed_tail`.
            while not engine.eof:
                tail = getattr(engine, "unconsumed_tail", b"")
                if kind == "gzip" and not tail:
                    break
                if kind != "gzip" and engine.needs_input:
                    break
                piece = engine.decompress(tail, READ_BYTES)
                if piece:
                    yield piece
            if engine.eof:
                pending = engine.unused_data
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, RuntimeError) as error:
        raise SourceDamagedError(
            f"{name}: the {kind} stream is damaged ({error}).", remedy="Fetch it again."
        ) from error


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    """Opens the file without decompression. Raises SourceNotFoundError if there is none."""
    note(path)
    try:
        with open_location(path) as file:
            yield file
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path} does not exist.", remedy="Check the path.") from error


def pieces_of(file: BinaryIO, name: str, start: int = 0, end: int = -1) -> Iterator[bytes]:
    """Yields the decompressed content of an opened file, in pieces. `start` and `end` apply only to an uncompressed file."""
    kind = compression_of(file.read(8))
    file.seek(0 if kind else start)
    if not kind:
        left = end - start if end >= 0 else None
        while left is None or left > 0:
            piece = file.read(READ_BYTES if left is None else min(READ_BYTES, left))
            if not piece:
                return
            if left is not None:
                left -= len(piece)
            yield piece
        return
    yield from _decompressed(file, kind, name)


def file_pieces(path: str, name: str = "") -> Iterator[bytes]:
    """Yields the decompressed content of the file at this path, in pieces of about 1 MiB."""
    with open_file(path) as file:
        yield from pieces_of(file, name or path)


def raw_head(path: str, limit: int = 512) -> bytes:
    """Returns the first bytes of the file, not decompressed."""
    with open_file(path) as file:
        return file.read(limit)


def head(path: str, limit: int = HEAD_BYTES) -> bytes:
    """Returns the first bytes of the decompressed content. Returns fewer bytes if the file is short or damaged."""
    content = b""
    try:
        for piece in file_pieces(path):
            content += piece
            if len(content) >= limit:
                break
    except SourceDamagedError:
        pass
    return content[:limit]
