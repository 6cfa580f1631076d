"""Bytes of a source: opened through fsspec, decompressed by what they are (not by their name), within limits."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from choline_data.errors import MissingDependencyError, SourceDamagedError, SourceNotFoundError
from choline_data.locations import open_location

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
    """The stream compression that these first bytes belong to: "gzip", "zstd", "bz2", "xz", "lz4" or ""."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


@contextmanager
def open_raw(path: str) -> Iterator[BinaryIO]:
    """The file as it lies there. SourceNotFoundError where there is none.

    A path `archive!/place/name`, as `members.listing` gives it, opens a member of a ZIP or tar.
    """
    if "!/" in path:
        from choline_data.adapters import members

        if members.is_member(path):
            with members.open_member(path) as file:
                yield file
            return
    try:
        with open_location(path) as file:
            yield file
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"{path}: there is no such file.") from error


def pieces(path: str, name: str = "", start: int = 0, end: int = -1) -> Iterator[bytes]:
    """The file's content, decompressed, in pieces of about a mebibyte, from byte `start` to `end` where it is plain.

    A cut or corrupt stream raises SourceDamagedError, after everything before the damage was yielded.
    """
    with open_raw(path) as file:
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
        yield from _decompressed(file, kind, name or path)


def _decompressed(file: BinaryIO, kind: str, name: str) -> Iterator[bytes]:
    raise_cut = SourceDamagedError(f"{name}: the {kind} stream is cut.", remedy="Fetch the file again.")
    try:
        if kind == "zstd":
            import zstandard

            reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                file, read_across_frames=True, closefd=False
            )
            while piece := reader.read(READ_BYTES):
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
        make = {
            "gzip": lambda: zlib.decompressobj(31),
            "bz2": bz2.BZ2Decompressor,
            "xz": lzma.LZMADecompressor,
        }[kind]
        engine = make()
        pending = b""
        while True:
            block = pending or file.read(READ_BYTES)
            pending = b""
            if not block:
                if engine is not None and not engine.eof:
                    raise raise_cut
                return
            if engine is None or engine.eof:
                block = block.lstrip(b"\x00") if kind == "gzip" else block
                if not block:
                    continue
                engine = make()
            piece = engine.decompress(block, READ_BYTES)
            if piece:
                yield piece
            # bz2/xz keep what they could not give yet; zlib hands it back.
            while not engine.eof:
                tail = getattr(engine, "unconsumed_tail", b"")
                if kind == "gzip" and not tail:
                    break
                if kind != "gzip" and engine.needs_input:  # type: ignore[union-attr]
                    break
                piece = engine.decompress(tail, READ_BYTES)
                if piece:
                    yield piece
            if engine.eof:
                pending = engine.unused_data
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, RuntimeError) as error:
        raise SourceDamagedError(f"{name}: the {kind} stream is damaged ({error}).", remedy="Fetch it again.") from error
    except Exception as error:
        if type(error).__module__.startswith("zstandard"):
            raise SourceDamagedError(f"{name}: the zstd stream is damaged ({error}).", remedy="Fetch it again.") from error
        raise


def head(path: str, limit: int = HEAD_BYTES) -> bytes:
    """The first bytes of the decompressed content; what there is where the file is short or damaged."""
    got = b""
    try:
        for piece in pieces(path):
            got += piece
            if len(got) >= limit:
                break
    except SourceDamagedError:
        pass
    return got[:limit]


def raw_head(path: str, limit: int = 512) -> bytes:
    """The first bytes as they lie there, compressed or not."""
    with open_raw(path) as file:
        return cast(bytes, file.read(limit))
