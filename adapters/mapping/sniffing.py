"""What kind of medium some bytes are, by their header."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sniffed:
    """A medium's type ("" if unknown) and, where its header says so, its size in pixels or its sampling rate."""

    mime: str = ""
    width: int = 0
    height: int = 0
    rate: int = 0


def sniff(data: bytes) -> Any:
    """Type, size and rate by the first bytes; raises nothing."""
    try:
        from choline_data.adapters import media
    except ImportError:
        return _by_magic(data)
    return media.sniff(data)


def _by_magic(data: bytes) -> Sniffed:
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return Sniffed("image/png", width, height)
    if data.startswith(b"\xff\xd8\xff"):
        return Sniffed("image/jpeg")
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        rate = struct.unpack("<I", data[24:28])[0] if len(data) >= 28 else 0
        return Sniffed("audio/wav", rate=rate)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Sniffed("image/webp")
    for magic, mime in (
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"ID3", "audio/mpeg"),
        (b"\xff\xfb", "audio/mpeg"),
        (b"GIF8", "image/gif"),
        (b"II*\x00", "image/tiff"),
        (b"\x1aE\xdf\xa3", "video/webm"),
    ):
        if data.startswith(magic):
            return Sniffed(mime)
    return Sniffed("video/mp4") if data[4:8] == b"ftyp" else Sniffed()
