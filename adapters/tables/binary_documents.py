"""Reads BSON (mongodump), MessagePack and CBOR: one document for each row.

A file holds documents one after another; MessagePack and CBOR may also hold one list of them. Times become text in UTC, ids of
objects their hexadecimal digits, decimal numbers text, and other bytes `{"$binary": base64}`.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.counted_bytes import CountedBytes
from choline_data.adapters.tables.table_batches import claim_tables
from choline_data.adapters.text_records.line_records import damaged, rows_in_chunks, shards_of
from choline_data.errors import SourceDamagedError, one_line

MAX_DEPTH = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LENGTH = -1
_CBOR_MARK = b"\xd9\xd9\xf7"


@dataclass(frozen=True)
class BinaryDocuments:
    """Reads the documents of a file, one for each row. A file that ends inside a document is damaged."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the documents from number `start` on."""
        faults: list[SourceDamagedError] = []
        yield from rows_in_chunks(_rows(shard, faults), shard, start)
        if faults:
            raise faults[0]


ADAPTER = BinaryDocuments


def _rows(shard: Shard, faults: list[SourceDamagedError]) -> Iterator[object]:
    """Yields the documents. What ends the reading is added to `faults`, after the documents before it."""
    stream = CountedBytes(io.pieces(shard.path, shard.name), shard.name, MAX_ROW_BYTES)
    head = io.head(shard.path, 16)
    kind = "cbor" if head.startswith(_CBOR_MARK) else io.extension(shard.name)
    try:
        if kind == "bson":
            yield from _bson_documents(stream, shard.name)
        else:
            yield from _listed(stream, _cbor if kind == "cbor" else _message_pack)
    except SourceDamagedError as error:
        faults.append(error)
    except (ValueError, struct.error, OverflowError) as error:
        faults.append(damaged(shard.name, f"after {stream.done:,} bytes: {one_line(error, 80)}"))


def _listed(stream: CountedBytes, value_of: Callable[..., Any]) -> Iterator[object]:
    """Yields the values of a file. The first one may be a list whose items are the documents."""
    is_first = True
    while not stream.at_end():
        items = value_of(stream, 0, items=is_first)
        if is_first and isinstance(items, Iterator):
            yield from items
        elif items is _BREAK:
            raise ValueError("a byte that begins no value")
        else:
            yield items
        is_first = False


# --- BSON


def _bson_documents(stream: CountedBytes, name: str) -> Iterator[object]:
    while not stream.at_end():
        size = stream.unpack("<i")
        if size < 5:
            raise damaged(name, f"a document of {size} bytes")
        body = CountedBytes(iter((stream.take(size - 4),)), name, MAX_ROW_BYTES)
        yield _bson_elements(body, 0, is_list=False)
        if not body.at_end():
            raise damaged(name, "a document is longer than its elements")


def _bson_elements(body: CountedBytes, depth: int, *, is_list: bool) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested above {MAX_DEPTH} levels")
    values: dict[str, Any] = {}
    while kind := body.take(1)[0]:
        name = _c_string(body)
        values[name] = _bson_value(body, kind, depth)
    return list(values.values()) if is_list else values


def _c_string(body: CountedBytes) -> str:
    letters = bytearray()
    while (letter := body.take(1)) != b"\0":
        letters += letter
    return letters.decode()


def _string(body: CountedBytes) -> str:
    data = body.take(body.unpack("<i"))
    if not data.endswith(b"\0"):
        raise ValueError("a text without its end")
    return data[:-1].decode()


def _bson_value(body: CountedBytes, kind: int, depth: int) -> Any:
    if kind in (0x03, 0x04):
        body.take(4)
        return _bson_elements(body, depth + 1, is_list=kind == 0x04)
    if kind in (0x02, 0x0D, 0x0E):
        return _string(body)
    if kind == 0x05:
        size, sub = body.unpack("<i"), body.take(1)[0]
        return _binary(body.take(size)[4:] if sub == 2 else body.take(size))
    if kind == 0x0B:
        return f"/{_c_string(body)}/{_c_string(body)}"
    if kind == 0x13:
        return _decimal(body.take(16))
    simple = _BSON.get(kind)
    if simple is None:
        raise ValueError(f"a value of the type 0x{kind:02x}, which is not supported")
    return simple(body)


_BSON: dict[int, Callable[[CountedBytes], Any]] = {
    0x01: lambda body: _float(body.unpack("<d")),
    0x06: lambda _: None,
    0x07: lambda body: body.take(12).hex(),
    0x08: lambda body: body.take(1) != b"\0",
    0x09: lambda body: _time(body.unpack("<q")),
    0x0A: lambda _: None,
    0x10: lambda body: body.unpack("<i"),
    0x11: lambda body: body.unpack("<Q"),
    0x12: lambda body: body.unpack("<q"),
    0x7F: lambda _: "MaxKey",
    0xFF: lambda _: "MinKey",
}


def _decimal(data: bytes) -> str:
    """Returns a decimal number of 128 bits as text."""
    bits = int.from_bytes(data, "little")
    sign = bits >> 127
    special = (bits >> 122) & 0x1F
    if special in (0x1E, 0x1F):
        return "NaN" if special == 0x1F else "-Infinity" if sign else "Infinity"
    if special >= 0x18:
        return "-0" if sign else "0"  # a coefficient that is not canonical counts as 0
    digits = tuple(map(int, str(bits & ((1 << 113) - 1))))
    return str(Decimal((sign, digits, ((bits >> 113) & 0x3FFF) - 6176)))


def _time(millis: int) -> str:
    """Returns a time in ISO 8601, or the number of milliseconds if it is outside of the years 1 to 9999."""
    try:
        return (_EPOCH + timedelta(milliseconds=millis)).isoformat()
    except OverflowError:
        return str(millis)


def _binary(data: bytes) -> dict[str, str]:
    return {"$binary": base64.b64encode(data).decode()}


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# --- MessagePack


def _message_pack(stream: CountedBytes, depth: int, *, items: bool = False) -> Any:
    """Returns the next value. With `items`, a list is returned as an iterator over its items."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested above {MAX_DEPTH} levels")
    first = stream.take(1)[0]
    if first < 0x80 or first >= 0xE0:
        return first if first < 0x80 else first - 0x100
    if first < 0x90 or first in (0xDE, 0xDF):
        size = first & 0x0F if first < 0x90 else stream.unpack(">H" if first == 0xDE else ">I")
        return _pairs(stream, size, depth, _message_pack)
    if first < 0xA0 or first in (0xDC, 0xDD):
        size = first & 0x0F if first < 0xA0 else stream.unpack(">H" if first == 0xDC else ">I")
        values = (_message_pack(stream, depth + 1) for _ in range(size))
        return values if items else list(values)
    if first < 0xC0:
        return stream.take(first & 0x1F).decode()
    return _packed_scalar(stream, first)


def _packed_scalar(stream: CountedBytes, first: int) -> Any:
    if first in _CONSTANTS:
        return _CONSTANTS[first]
    if first in _PACKED_NUMBERS:
        value = stream.unpack(_PACKED_NUMBERS[first])
        return _float(value) if isinstance(value, float) else value
    if 0xC4 <= first <= 0xC6:
        return _binary(stream.take(stream.unpack((">B", ">H", ">I")[first - 0xC4])))
    if 0xD9 <= first <= 0xDB:
        return stream.take(stream.unpack((">B", ">H", ">I")[first - 0xD9])).decode()
    size = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}.get(first, _NO_LENGTH)
    if size == _NO_LENGTH:
        if not 0xC7 <= first <= 0xC9:
            raise ValueError("a byte that begins no value")
        size = stream.unpack((">B", ">H", ">I")[first - 0xC7])
    kind = stream.unpack(">b")
    data = stream.take(size)
    return _moment(data) if kind == -1 and size in (4, 8, 12) else {"$type": kind, **_binary(data)}


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_PACKED_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h",
                   0xD2: ">i", 0xD3: ">q"}  # fmt: skip


def _moment(data: bytes) -> str:
    if len(data) == 12:
        nanos, seconds = struct.unpack(">Iq", data)
    else:
        number = int.from_bytes(data, "big")
        nanos, seconds = (number >> 34, number & ((1 << 34) - 1)) if len(data) == 8 else (0, number)
    whole = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    return f"{whole[:19]}.{nanos:09d}{whole[19:]}" if nanos else whole


def _pairs(stream: CountedBytes, size: int, depth: int, value_of: Callable[..., Any]) -> dict[str, Any]:
    """Returns a mapping of so many keys and values; until its end if the size is _NO_LENGTH."""
    values: dict[str, Any] = {}
    while size:
        key = value_of(stream, depth + 1)
        if key is _BREAK and size < 0:
            break
        size -= 1
        if isinstance(key, dict) and set(key) == {"$binary"}:
            key = base64.b64decode(key["$binary"]).decode()
        if not isinstance(key, (str, int)) or isinstance(key, bool):
            raise ValueError("a key that is neither a text nor an integer")
        value = value_of(stream, depth + 1)
        if value is _BREAK or str(key) in values:
            raise ValueError("a key without a value, or one that stands twice")
        values[str(key)] = value
    return values


# --- CBOR

_BREAK = object()
_SELF_DESCRIBED = 55799  # the tag that only says that the data are CBOR


def _cbor(stream: CountedBytes, depth: int, *, items: bool = False) -> Any:
    """Returns the next value. With `items`, a list is returned as an iterator over its items."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested above {MAX_DEPTH} levels")
    first = stream.take(1)[0]
    major, minor = first >> 5, first & 0x1F
    if major == 7:
        return _cbor_simple(stream, minor)
    number = minor
    if minor in (24, 25, 26, 27):
        number = stream.unpack((">B", ">H", ">I", ">Q")[minor - 24])
    elif minor == 31 and major in (2, 3, 4, 5):
        number = _NO_LENGTH
    elif minor > 27:
        raise ValueError("a byte that begins no value")
    if major in (0, 1):
        return number if major == 0 else -1 - number
    if major in (2, 3):
        data = _cbor_string(stream, number, major)
        return _binary(data) if major == 2 else data.decode()
    if major == 4:
        values = _cbor_items(stream, number, depth)
        return values if items else list(values)
    if major == 5:
        return _pairs(stream, number, depth, _cbor)
    return _cbor_tagged(number, _cbor(stream, depth + 1, items=items and number == _SELF_DESCRIBED))


def _cbor_items(stream: CountedBytes, count: int, depth: int) -> Iterator[Any]:
    while count:
        value = _cbor(stream, depth + 1)
        if value is _BREAK:
            if count > 0:
                raise ValueError("a list that ends before its length")
            return
        yield value
        count -= 1


def _cbor_string(stream: CountedBytes, size: int, major: int) -> bytes:
    if size != _NO_LENGTH:
        return stream.take(size)
    parts = bytearray()
    while (first := stream.take(1)[0]) != 0xFF:
        if first >> 5 != major or first & 0x1F > 27:
            raise ValueError("a text has a part that is not a text")
        minor = first & 0x1F
        parts += stream.take(minor if minor < 24 else stream.unpack((">B", ">H", ">I", ">Q")[minor - 24]))
        if len(parts) > MAX_ROW_BYTES:
            raise ValueError("a text above the limit of a row")
    return bytes(parts)


def _cbor_simple(stream: CountedBytes, minor: int) -> Any:
    if minor in (20, 21, 22, 23):
        return (False, True, None, None)[minor - 20]
    if minor in (25, 26, 27):
        return _float(stream.unpack((">e", ">f", ">d")[minor - 25]))
    if minor == 31:
        return _BREAK
    raise ValueError("a simple value without a meaning")


def _cbor_tagged(tag: int, value: Any) -> Any:
    """Returns a tagged value: times and big integers by their meaning, other tags as `{"$tag": …, "value": …}`."""
    if value is _BREAK:
        raise ValueError("a tag without a value")
    if tag == _SELF_DESCRIBED or (tag == 0 and isinstance(value, str)):
        return value
    if tag == 1 and isinstance(value, (int, float)):
        return (_EPOCH + timedelta(seconds=value)).isoformat()
    if tag in (2, 3) and isinstance(value, dict):
        number = int.from_bytes(base64.b64decode(value["$binary"]), "big")
        return number if tag == 2 else -1 - number
    return {"$tag": tag, "value": value}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of documents."""
    return claim_tables(source, BinaryDocuments(), "binary documents")
