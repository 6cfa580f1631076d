"""Reads the type, size and sample rate of media from their first bytes, without decoding them."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import pyarrow as pa

MAX_PIXELS = 64_000_000
MAX_MEDIUM_BYTES = 256 << 20

IMAGE_SUFFIXES = frozenset(["png", "jpg", "jpeg", "gif", "webp", "bmp", "svg", "tif", "tiff", "ppm", "pgm", "pbm"])
AUDIO_SUFFIXES = frozenset(["wav", "flac", "ogg", "oga", "opus", "mp3", "m4a", "aac", "aif", "aiff"])
VIDEO_SUFFIXES = frozenset(["mp4", "webm", "mkv", "avi", "mov", "mpg", "mpeg"])

MEDIUM = pa.struct([pa.field("bytes", pa.large_binary()), pa.field("path", pa.string())])


@dataclass(frozen=True)
class Probe:
    """The values in a medium's header. `fault` is the reason why the bytes are refused, or ""."""

    mime: str = ""
    width: int | None = None
    height: int | None = None
    rate: int | None = None
    fault: str = ""


def suffix_of(name: str) -> str:
    """Returns the last extension of a name, lower case and without its dot."""
    stem, _, suffix = name[name.rfind("/") + 1 :].rpartition(".")  # pathlib would take ten times as long
    return suffix.lower() if stem else ""


def column_for(name: str) -> str:
    """Returns the media column for a file with this name: image, audio, video or ""."""
    suffix = suffix_of(name)
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in AUDIO_SUFFIXES:
        return "audio"
    return "video" if suffix in VIDEO_SUFFIXES else ""


def is_companion(column: str) -> bool:
    """Whether a column with this name holds a second picture that belongs to the first one: a mask, or the other picture of a pair.

    Members of WebDataset tars such as `seg.png` are such columns too.
    """
    stem, _, suffix = column.rpartition(".")
    return column.partition("_")[0] in ("mask", "paired") or (bool(stem) and suffix.lower() in IMAGE_SUFFIXES)


def mime_of(head: bytes) -> str:
    """Returns the MIME type by magic bytes; "" if they are not those of a known image, audio or video format."""
    for magic, mime in _MAGIC:
        if head.startswith(magic):
            return mime
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12], "")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] == b"M4A" else "video/mp4"
    if len(head) > 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "audio/mpeg" if head[1] & 0x06 else "audio/aac"
    if re.match(rb"P[1-6]\s", head):
        return "image/x-portable-anymap"
    if re.match(rb"\s*(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg|<svg)", head[:4096], re.S):
        return "image/svg+xml"
    return ""


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
)


def probe(data: bytes, expected: str = "") -> Probe:
    """Reads the header of a medium. The result has a `fault` if the medium is refused.

    `expected` is the media column for it. Bytes of another type (such as HTML in a file named `.png`) are refused.
    """
    mime = mime_of(data)
    if not mime:
        return Probe(fault=_unknown(data))
    if expected and mime.split("/")[0] != expected and not (expected == "audio" and mime == "video/webm"):
        return Probe(mime, fault=f"meant as {expected}, but the bytes are {mime}")
    try:
        if mime.startswith("image/"):
            return _picture(mime, data)
        return Probe(mime, rate=_RATES[mime](data) if mime in _RATES else None)
    except (struct.error, IndexError):
        return Probe(mime, fault=f"the {mime} header is truncated")


def _unknown(data: bytes) -> str:
    """Returns what the bytes are instead of a medium, in words."""
    if not data:
        return "the file is empty"
    page = re.match(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|\?xml)", data[:512], re.IGNORECASE)
    return "the bytes are a web page, not a medium" if page else "the bytes are of no known picture, sound or film"


def _picture(mime: str, data: bytes) -> Probe:
    if mime == "image/svg+xml":
        unsafe = b"<!doctype" in data.lower() or b"<!entity" in data.lower()
        return Probe(mime, fault="the SVG declares a document type or entities" if unsafe else "")
    size = _SIZES[mime](data) if mime in _SIZES else None
    if size is None:
        return Probe(mime)
    width, height = size
    if width <= 0 or height <= 0:
        return Probe(mime, fault=f"the picture is {width} x {height}")
    if width * height > MAX_PIXELS:
        return Probe(mime, fault=f"the picture is {width} x {height}, above {MAX_PIXELS:,} pixels (max_pixels)")
    if mime == "image/gif" and not _gif_goes_on(data):
        return Probe(mime, fault="the GIF header is followed by something else: a polyglot")
    return Probe(mime, width, height)


def _png(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise struct.error
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _gif_goes_on(data: bytes) -> bool:
    flags = data[10]
    after = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    return data[after : after + 1] in (b"!", b",", b";")


def _bmp(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker in (0xD9, 0xDA):
            raise struct.error
        if not 0xD0 <= marker <= 0xD8 and marker != 0x01:
            (length,) = struct.unpack_from(">H", data, at)
            at += length
            if length < 2 or data[at] != 0xFF:
                raise struct.error


def _webp(data: bytes) -> tuple[int, int]:
    form = data[12:16]
    if form == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _wav(data: bytes) -> int | None:
    at = 12
    while data[at : at + 4] != b"fmt ":
        at += 8 + struct.unpack_from("<I", data, at + 4)[0]
        at += at & 1
    return int(struct.unpack_from("<I", data, at + 12)[0])


def _flac(data: bytes) -> int:
    return int.from_bytes(data[18:21], "big") >> 4


def _ogg(data: bytes) -> int | None:
    packet = data[27 + data[26] :]
    if packet.startswith(b"\x01vorbis"):
        return int(struct.unpack_from("<I", packet, 12)[0])
    return 48_000 if packet.startswith(b"OpusHead") else None


def _mp3(data: bytes) -> int | None:
    at = 0
    if data[:3] == b"ID3":
        at = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
    if at + 3 > len(data) or data[at] != 0xFF:
        return None
    rates = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
    row, column = rates.get(data[at + 1] >> 3 & 3), data[at + 2] >> 2 & 3
    return row[column] if row and column < 3 else None


_SIZES = {"image/png": _png, "image/gif": _gif, "image/bmp": _bmp, "image/jpeg": _jpeg, "image/webp": _webp}
_RATES = {"audio/wav": _wav, "audio/flac": _flac, "audio/ogg": _ogg, "audio/mpeg": _mp3}
