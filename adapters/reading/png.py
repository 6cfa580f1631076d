"""Writes the pixels of arrays as PNG, which keeps every pixel."""

from __future__ import annotations

import struct
import zlib

_COLOURS = {1: 0, 3: 2, 4: 6}  # the PNG colour type by the number of channels


def png(pixels: bytes, width: int, height: int, channels: int = 1) -> bytes:
    """Returns 8-bit pixels as PNG: grey, RGB or RGBA."""
    step = width * channels
    lines = b"".join(b"\x00" + pixels[at : at + step] for at in range(0, step * height, step))
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _part(b"IHDR", head) + _part(b"IDAT", zlib.compress(lines, 6)) + _part(b"IEND", b"")


def _part(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
