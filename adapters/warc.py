"""Reads WARC: one record for each row, uncompressed or with one gzip member for each record. Keeps records of every type.

A textual body is in `text`, decoded from its HTTP encoding. Any other body is in `payload`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import decoded_or_fault, for_a_look
from choline_data.adapters.reading.names import in_order, is_about
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.reading.tar_stream import PieceStream
from choline_data.errors import SourceDamagedError

MAX_HEADER_BYTES = 64 << 10
MAX_RECORD_BYTES = 64 << 20
_TEXTUAL = ("text/", "application/json", "application/xhtml", "application/xml", "application/javascript")
_TYPES = {
    "text": pa.large_string(),
    "url": pa.string(),
    "date": pa.string(),
    "record_type": pa.string(),
    "record_id": pa.string(),
    "content_type": pa.string(),
    "http_status": pa.int32(),
    "http_headers": pa.string(),
    "warc_headers": pa.string(),
    "payload": pa.large_binary(),
}


@dataclass(frozen=True)
class Warc:
    """Reads every record. A record above `max_bytes` is rejected; it is skipped and not held in memory."""

    max_bytes: int = MAX_RECORD_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the records from number `start` on. If the file is cut, yields the whole records before the cut, then
        raises.
        """
        rows = SourceRows(shard.origin, _TYPES)
        try:
            for number, (headers, block) in enumerate(self._records(shard)):
                if number < start:
                    continue
                if rows.full(len(block or b"")):
                    yield from rows.take()
                if block is None:
                    rows.reject(number, f"above {self.max_bytes:,} bytes (max_bytes)")
                else:
                    rows.add(number, _values(headers, block, self.max_bytes), len(block))
        except SourceDamagedError:
            yield from rows.take()
            raise
        yield from rows.take()

    def _records(self, shard: Shard) -> Iterator[tuple[dict[str, str], bytes | None]]:
        stream = PieceStream(io.pieces(shard.path, shard.name))
        while head := _head(stream, shard.name):
            headers = _fields(head)
            length = headers.get("content-length", "")
            if not head.startswith(b"WARC/") or not length.isdecimal() or len(length) > 18:
                raise SourceDamagedError(
                    f"{shard.name}: no WARC record before byte {stream.position}.", remedy="Fetch it again."
                )
            size = int(length)
            fits = size <= self.max_bytes
            block = stream.read(size) if fits else b""
            if (len(block) if fits else stream.skip(size)) < size:
                raise SourceDamagedError(
                    f"{shard.name}: the record at byte {stream.position} is truncated.", remedy="Fetch it again."
                )
            yield headers, block if fits else None


ADAPTER = Warc


def _head(stream: PieceStream, name: str) -> bytes:
    """Returns the header lines of the next record, without the blank lines after the previous record; b"" at the end."""
    lines: list[bytes] = []
    line = bytearray()
    size = 0
    while byte := stream.read(1):
        line += byte
        size += 1
        if size > MAX_HEADER_BYTES:
            raise SourceDamagedError(f"{name}: a record header is above 64 KiB.", remedy="Is it a WARC file?")
        if byte != b"\n":
            continue
        if line.strip():
            lines.append(bytes(line))
        elif lines:
            return b"".join(lines)
        line.clear()
    if lines or line.strip():
        raise SourceDamagedError(f"{name}: the last record header is truncated.", remedy="Fetch it again.")
    return b""


def _fields(head: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in for_a_look(head).splitlines()[1:]:
        key, _, value = line.partition(":")
        fields[key.strip().lower()] = value.strip()
    return fields


def _values(headers: dict[str, str], block: bytes, limit: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "text": "",  # records without text, such as requests, metadata and images, are kept too
        "url": headers.get("warc-target-uri"),
        "date": headers.get("warc-date"),
        "record_type": headers.get("warc-type"),
        "record_id": headers.get("warc-record-id"),
        "content_type": headers.get("content-type"),
        "warc_headers": orjson.dumps(headers).decode(),
    }
    content, kind = block, headers.get("content-type", "")
    if kind.startswith("application/http"):
        head, _, content = block.partition(b"\r\n\r\n")
        first = head.split(b"\r\n")[0].split(b" ")
        fields = _fields(head)
        values["http_headers"] = for_a_look(head)
        if first[0].startswith(b"HTTP/") and len(first) > 1 and first[1].isdigit():
            values["http_status"] = int(first[1][:3])
        kind = fields.get("content-type", "")
        content = _body(content, fields, limit)
    if headers.get("warc-type") in ("response", "resource", "conversion") and kind.startswith(_TEXTUAL):
        values["text"], fault = decoded_or_fault(content, _charset(kind))
        if fault:
            values["text"], values["payload"] = None, content
    elif content:
        values["payload"] = content
    return values


def _charset(content_type: str) -> str:
    match = re.search(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", content_type, re.IGNORECASE)
    return match.group(1) if match else ""


def _body(content: bytes, fields: dict[str, str], limit: int) -> bytes:
    """Returns the body without its transfer and content encodings.

    A content encoding stays if decoding fails or exceeds the limit.
    """
    if "chunked" in fields.get("transfer-encoding", "").lower():
        content = _unchunked(content)
    if fields.get("content-encoding", "").lower() in ("gzip", "x-gzip", "deflate"):
        engine = zlib.decompressobj(47)
        try:
            plain = engine.decompress(content, limit)
        except zlib.error:
            return content
        return content if engine.unconsumed_tail else plain
    return content


def _unchunked(content: bytes) -> bytes:
    pieces, at = [], 0
    while (end := content.find(b"\r\n", at)) >= 0:
        try:
            size = int(content[at:end].split(b";")[0], 16)
        except ValueError:
            return content
        if size <= 0:
            break
        pieces.append(content[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(pieces)


def detect(source: Source) -> list[FormatClaim]:
    """Claims files with `.warc` in their name that begin with a WARC record."""
    warc_files = [f for f in source.files if ".warc" in f.name.lower() and io.head(f.path, 8).startswith(b"WARC/")]
    if not warc_files:
        return []
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    return [
        FormatClaim(Warc(), tuple(warc_files), 1.0, f"{len(warc_files)} WARC file(s)", kind="text", passed_over=passed)
    ]
