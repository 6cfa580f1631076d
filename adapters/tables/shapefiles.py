"""Reads shapefiles and dBase tables: one shape or record for each row, with a column for each field.

A shapefile consists of files with one name: `.shp` has the shapes, `.dbf` the fields, `.cpg` the encoding. `shape` is the kind of
shape, and `parts` are its rings, lines or points, as lists of points [x, y], [x, y, m] or [x, y, z, m]. Deleted records of a dBase
table are left out. Memo fields are refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.counted_bytes import CountedBytes
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.text_records.line_records import TextRecord, damaged, record_chunks
from choline_data.errors import ChoiceNeededError, SourceDamagedError, SourceFormatError, one_line

_SHAPES = {0: "", 1: "point", 3: "line", 5: "polygon", 8: "points", 31: "patches"}
_PARTS = pa.list_(pa.list_(pa.list_(pa.float64())))
_NO_DATA = -1e38  # a measure below this is missing
_CODE_PAGES = {0x01: "cp437", 0x02: "cp850", 0x03: "cp1252", 0x57: "cp1252", 0x64: "cp852", 0x65: "cp866", 0x66: "cp865",
               0x4D: "gb18030", 0x4E: "cp949", 0x4F: "big5", 0x7B: "cp932", 0xC8: "cp1250", 0xC9: "cp1251", 0xCA: "cp1254",
               0xCB: "cp1253"}  # fmt: skip
_OF_CPG = {"88591": "iso8859-1", "ansi 1252": "cp1252", "ansi 1251": "cp1251", "ansi 1250": "cp1250"}
_MEMOS = "MGPBW"


@dataclass(frozen=True)
class DbfField:
    """A field of a dBase table: its name, its type and its number of bytes."""

    name: str
    kind: str
    size: int
    decimals: int

    @property
    def type(self) -> pa.DataType:
        """The type of its column."""
        if self.kind in "NF":
            return pa.int64() if self.kind == "N" and not self.decimals and self.size < 19 else pa.float64()
        return {"I": pa.int64(), "+": pa.int64(), "L": pa.bool_(), "O": pa.float64()}.get(self.kind, pa.string())


@dataclass
class _Table:
    """The header of a dBase table."""

    rows: int
    size: int
    page: int
    fields: list[DbfField] = field(default_factory=list)


@dataclass(frozen=True)
class Shapefiles:
    """Reads shapes with their fields, and dBase tables without shapes."""

    encoding: str = ""
    states_encoding: ClassVar[bool] = True

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each shapefile and for each dBase table. Its other files are `files`."""
        by_name: dict[str, dict[str, SourceFile]] = {}
        for file in in_order(files):
            by_name.setdefault(_stem(file.name), {})[io.extension(file.name)] = file
        shards: list[Shard] = []
        for parts in by_name.values():
            main = parts.get("shp") or parts.get("dbf")
            if main is not None and "dbf" not in parts:
                raise SourceDamagedError(
                    f"{main.name} is without its .dbf, which has the fields.",
                    remedy="Add both files, or the folder of them.",
                )
            if main is not None:
                more = tuple(file for file in parts.values() if file is not main)
                shards.append(Shard(main.path, main.name, files=more, size=main.size))
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from number `start` on."""
        beside = {io.extension(file.name): file for file in shard.files}
        is_table = io.extension(shard.name) != "shp"
        table = SourceFile(shard.path, shard.name) if is_table else beside["dbf"]
        fields = self._fields(table, beside.get("cpg"))
        types: dict[str, pa.DataType] = {} if is_table else {"shape": pa.string(), "parts": _PARTS}
        header = _header(CountedBytes(io.pieces(table.path, table.name), table.name, MAX_ROW_BYTES), table.name)
        types |= {_column(each.name, types): each.type for each in header.fields}
        if is_table:
            records: Iterator[TextRecord] = (TextRecord(v, size) for v, size in fields if v is not None)
        else:
            records = _joined(_shapes(shard), fields, shard.name)
        return record_chunks(records, shard, start, types)

    def _fields(self, file: SourceFile, pages: SourceFile | None) -> Iterator[tuple[dict[str, Any] | None, int]]:
        """Yields the values of each record, or None for a deleted one, and their size."""
        stream = CountedBytes(io.pieces(file.path, file.name), file.name, MAX_ROW_BYTES)
        header = _header(stream, file.name)
        encoding = self.encoding or _encoding(header.page, pages)
        parse = [(f, _parser(f, encoding)) for f in header.fields]
        for row in range(header.rows):
            record = stream.take(header.size)
            if record[:1] not in b" *":
                raise damaged(file.name, f"record {row} begins with a byte that no record begins with")
            at, values = 1, dict[str, Any]()
            try:
                for each, read in parse:
                    values[each.name] = read(record[at : at + each.size])
                    at += each.size
            except UnicodeDecodeError as error:
                raise ChoiceNeededError(
                    f"{file.name} is not {encoding}, and does not state its encoding.",
                    remedy="Choose: --encoding cp1252, --encoding cp1251, --encoding gb18030 …",
                ) from error
            except (ValueError, LookupError) as error:
                raise damaged(file.name, f"record {row}: {one_line(error, 80)}") from error
            yield (None if record[:1] == b"*" else values), 2 * header.size


ADAPTER = Shapefiles


def _stem(name: str) -> str:
    return re.sub(r"\.(shp|dbf|shx|prj|cpg)(\.\w+)?$", "", name, flags=re.IGNORECASE)


def _column(name: str, others: Mapping[str, object]) -> str:
    """Returns the column of a field. A field with the name of a column of the shape gets another one."""
    return f"{name}_field" if name in others else name


def _joined(
    shapes: Iterator[tuple[dict[str, Any], int]], fields: Iterator[tuple[dict[str, Any] | None, int]], name: str
) -> Iterator[TextRecord]:
    """Yields each shape with the fields of the record that has the same number."""
    for shape, size in shapes:
        values, more = next(fields, ({}, -1))
        if more < 0:
            raise damaged(name, "it has more shapes than its .dbf has records")
        if values is not None:
            own = {_column(key, shape): value for key, value in values.items()}
            yield TextRecord({**shape, **own}, size + more)
    if next(fields, None) is not None:
        raise damaged(name, "its .dbf has more records than it has shapes")


# --- dBase


def _header(stream: CountedBytes, name: str) -> _Table:
    head = stream.take(32)
    rows, start, size = struct.unpack("<IHH", head[4:12])
    table = _Table(rows, size, head[29])
    while True:
        first = stream.take(1)
        if first == b"\r":
            break
        entry = first + stream.take(31)
        kind = chr(entry[11])
        title = entry[:11].split(b"\0", 1)[0].decode("utf-8", "replace").strip()
        if kind in _MEMOS or kind not in "CNFDLIOTY+@":
            raise SourceFormatError(
                f"{name}: the field {one_line(title, 40)} has the type {kind!r}, which is not supported.",
                remedy="Convert it to Parquet, CSV or JSON Lines with dbfread.",
            )
        if any(each.name == title for each in table.fields):
            raise damaged(name, f"two fields have the name {one_line(title, 40)!r}")
        length = entry[16] + 256 * entry[17] if kind == "C" else entry[16]
        table.fields.append(DbfField(title, kind, length, 0 if kind == "C" else entry[17]))
        if stream.done > start:
            raise damaged(name, "the header of the table is longer than it says")
    if not table.fields or sum(f.size for f in table.fields) + 1 != size or stream.done > start:
        raise damaged(name, "the header of the table contradicts itself")
    stream.take(start - stream.done)
    return table


def _encoding(page: int, pages: SourceFile | None) -> str:
    """Returns the encoding that the .cpg file or the table states, or else UTF-8."""
    stated = io.content(pages.path, pages.name, limit=1 << 20).decode("ascii", "replace").strip() if pages else ""
    if stated:
        number = re.sub(r"^(OEM|ANSI|CP|WINDOWS-)\s*(?=\d)", "", stated, flags=re.IGNORECASE)
        return _OF_CPG.get(stated.lower(), _OF_CPG.get(number, f"cp{number}" if number.isdecimal() else stated))
    return _CODE_PAGES.get(page, "utf-8")


def _parser(each: DbfField, encoding: str) -> Callable[[bytes], Any]:
    if each.kind == "C":
        return lambda data: data.rstrip(b" \0").decode(encoding) or None
    if each.kind in "NF":
        is_integer = each.type == pa.int64()
        return lambda data: _number(data.decode("ascii").strip(" \0"), is_integer=is_integer)
    if each.kind == "D":
        return _day
    if each.kind == "L":
        return _truth
    return _BINARY_FIELDS[each.kind]


def _number(text: str, *, is_integer: bool) -> int | float | None:
    if not text or set(text) == {"*"}:
        return None
    if is_integer:
        return int(text)
    return float(text.replace(",", "."))


def _day(data: bytes) -> str | None:
    text = data.decode("ascii").strip(" \0")
    if not text or text == "0" * len(text):
        return None
    if not re.fullmatch(r"\d{8}", text):
        raise ValueError(f"no date: {text!r}")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _truth(data: bytes) -> bool | None:
    letter = data.decode("ascii").upper()
    if letter in ("T", "Y", "F", "N"):
        return letter in "TY"
    if letter in ("?", " ", "\0", ""):
        return None
    raise ValueError(f"no truth value: {letter!r}")


def _moment(data: bytes) -> str | None:
    """Returns the time of eight bytes: a Julian day and milliseconds."""
    from datetime import datetime, timedelta

    day, millis = struct.unpack("<II", data)
    return (datetime(1, 1, 1) + timedelta(days=day - 1721426, milliseconds=millis)).isoformat() if day else None


_BINARY_FIELDS: Mapping[str, Callable[[bytes], Any]] = {
    "I": lambda data: struct.unpack("<i", data)[0],
    "+": lambda data: struct.unpack("<i", data)[0],
    "O": lambda data: struct.unpack("<d", data)[0],
    "Y": lambda data: f"{struct.unpack('<q', data)[0] / 10000:.4f}",
    "T": _moment,
    "@": _moment,
}


# --- shapes


def _shapes(shard: Shard) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields the kind and the parts of each shape, and their size."""
    stream = CountedBytes(io.pieces(shard.path, shard.name), shard.name, 16 * MAX_ROW_BYTES)
    head = stream.take(100)
    words = struct.unpack(">i", head[24:28])[0]
    if struct.unpack(">i", head[:4])[0] != 9994 or words < 50:
        raise damaged(shard.name, "it does not begin as a shapefile")
    row = 0
    while stream.done < 2 * words:
        stream.take(4)
        body = stream.take(2 * int(stream.unpack(">i")))
        try:
            kind, parts = _shape(body)
        except (struct.error, ValueError) as error:
            raise damaged(shard.name, f"shape {row}: {one_line(error, 80)}") from error
        yield {"shape": kind or None, "parts": parts}, 4 * len(body)
        row += 1
    if not stream.at_end():
        raise damaged(shard.name, "it is longer than its header says")


def _shape(body: bytes) -> tuple[str, list[list[list[float]]] | None]:
    code = struct.unpack_from("<i", body)[0]
    kind, has_z, has_m = code % 10 if code != 31 else code, 10 < code < 20 or code == 31, code > 20 and code != 31
    if kind not in _SHAPES:
        raise ValueError(f"an unknown kind of shape ({code})")
    if not kind:
        return "", None
    if kind == 1:
        count = (len(body) - 4) // 8
        point = list(struct.unpack_from(f"<{min(count, 4)}d", body, 4))
        if len(point) < 2 + has_z + has_m:
            raise ValueError("a point without its coordinates")
        return _SHAPES[kind], [[_measured(point, 2 + has_z)]]
    at = 36
    parts_count = 1
    if kind != 8:
        parts_count, points = struct.unpack_from("<ii", body, at)
        at += 8
    else:
        points = struct.unpack_from("<i", body, at)[0]
        at += 4
    if parts_count < 0 or points < 0 or 16 * points + 4 * parts_count > len(body):
        raise ValueError("more points than it has bytes")
    starts = list(struct.unpack_from(f"<{parts_count}i", body, at)) if kind != 8 else [0]
    at += 4 * parts_count * (kind != 8) + 4 * parts_count * (code == 31)
    flat = struct.unpack_from(f"<{2 * points}d", body, at)
    at += 16 * points
    columns = [flat[0::2], flat[1::2]]
    heights, measures = (
        has_z,
        (has_z or has_m) and len(body) > at + (16 + 8 * points) * has_z,
    )  # measures may be missing
    for is_there in (heights, measures):
        if is_there:
            columns.append(struct.unpack_from(f"<{points}d", body, at + 16))
            at += 16 + 8 * points
    rows = [_measured(list(point), 2 + has_z) for point in zip(*columns, strict=True)]
    ends = [*starts[1:], points]
    if starts != sorted(starts) or any(not 0 <= s <= points for s in starts):
        raise ValueError("parts in a wrong order")
    return _SHAPES[kind], [rows[start:end] for start, end in zip(starts, ends, strict=True)]


def _measured(point: list[float], coordinates: int) -> list[float]:
    """Returns a point without its measure if that is missing."""
    return point[:coordinates] if len(point) > coordinates and point[coordinates] < _NO_DATA else point


def detect(source: Source) -> list[FormatClaim]:
    """Claims the shapefiles with their other files, and the dBase tables."""
    found = {(_stem(f.name), io.extension(f.name)) for f in source.files}
    stems = {stem for stem, extension in found if extension in ("shp", "dbf")}
    files = tuple(f for f in source.files if _stem(f.name) in stems and io.extension(f.name) in ("shp", "dbf", "cpg"))
    if not files:
        return []
    described = tuple(
        (f.name, "part of a shapefile") for f in source.files if _stem(f.name) in stems and f not in files
    )
    return [FormatClaim(Shapefiles(), files, 1.0, "shapefiles or dBase tables", described=described)]
