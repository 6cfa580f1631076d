"""Reads a few rows of packed formats for the self-check: TFRecord, WARC, MDS, LitData and COCO; and counts those of Avro."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import IO, Any

from choline_data.adapters.base import Shard
from choline_data.catalog.self_check.source_files import HEAD_BYTES, HELD_BYTES, SourceFiles
from choline_data.catalog.self_check.source_row import ROWS, SourceRow, ends

_NUMBERS = {"int": "q", "int64": "q", "int32": "i", "int16": "h", "float": "d", "float64": "d", "float32": "f"}


@cache
def _example_type() -> Any:
    """Returns the class of tf.train.Example, which the protobuf library makes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="choline_example.proto", package="choline_example", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, str, bool]) -> None:
        made = file.message_type.add(name=name)
        for field, kind, of, many in fields:
            made.field.add(
                name=field,
                number=len(made.field) + 1,
                type=kind,
                type_name=f".choline_example.{of}" if of else None,
                label=3 if many else 1,
            )

    message("Texts", ("value", 12, "", True))
    message("Floats", ("value", 2, "", True))
    message("Integers", ("value", 3, "", True))
    message(
        "Feature", ("texts", 11, "Texts", False), ("floats", 11, "Floats", False), ("integers", 11, "Integers", False)
    )
    message("Entry", ("key", 9, "", False), ("value", 11, "Feature", False))
    message("Features", ("entry", 11, "Entry", True))
    message("Example", ("features", 11, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("choline_example.Example"))


def tfrecord(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields the texts and numbers of examples, as the protobuf library reads them."""
    from google.protobuf.message import DecodeError

    with files.opened(shard.path) as file:
        for at in range(ROWS):
            head = file.read(12)
            if len(head) < 12:
                return
            (size,) = struct.unpack("<Q", head[:8])
            if size > HEAD_BYTES:
                return
            data = file.read(size)
            file.read(4)
            try:
                example = _example_type().FromString(data)
            except DecodeError:
                return
            values: dict[str, Any] = {}
            for entry in example.features.entry:
                found = [*entry.value.floats.value, *entry.value.integers.value]
                texts = list(entry.value.texts.value)
                if texts and all(text.isascii() and text.decode().isprintable() for text in texts):
                    found = [text.decode() for text in texts]
                if found:
                    values[entry.key] = found[0] if len(found) == 1 else found
            if values:
                yield SourceRow(at, at, values, whole=False)


def warc(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields the addresses and ids of records, and the bodies that HTTP did not encode."""
    with files.opened(shard.path) as file:
        for at in range(ROWS):
            fields = _headers(file)
            size = int(fields.get("content-length", "-1"))
            if not 0 <= size <= HEAD_BYTES:
                return
            block = file.read(size)
            values: dict[str, Any] = {
                "record_id": fields.get("warc-record-id"),
                "record_type": fields.get("warc-type"),
                "url": fields.get("warc-target-uri"),
            }
            head, _, body = block.partition(b"\r\n\r\n")
            plain = head.startswith(b"HTTP/") and b"-encoding:" not in head.lower()
            if plain and re.search(rb"content-type: *text/[a-z]+; *charset=utf-8", head.lower()):
                values["text"] = body.decode()
            yield SourceRow(at, at, values, whole="text" in values)


def _headers(file: IO[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    while line := file.readline(HEAD_BYTES):
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
        elif found and not line.strip():
            break
    return found


def _spans(data: bytes, columns: list[int | None]) -> Iterator[tuple[int, list[bytes]]]:
    """Yields numbers and cells of the first and last rows of a shard of MDS or LitData."""
    (count,) = struct.unpack_from("<I", data)
    for at in ends(count, 4):
        start, end = struct.unpack_from("<2I", data, 4 + 4 * at)
        open_ = sum(size is None for size in columns)
        sizes = iter(struct.unpack_from(f"<{open_}I", data, start))
        start += 4 * open_
        cells = []
        for size in columns:
            length = next(sizes) if size is None else size
            cells.append(data[start : start + length])
            start += length
        if start != end:
            raise ValueError("the cells do not fill the row")
        yield at, cells


def mds(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields the texts, numbers and pictures of a shard of MDS."""
    data, whole = files.head(shard.path, HELD_BYTES)
    if not whole:
        return
    index, _ = files.head(shard.files[0].path, HELD_BYTES)
    entry = json.loads(index)["shards"][shard.start]
    encodings = entry["column_encodings"]
    for at, cells in _spans(data, entry["column_sizes"]):
        values: dict[str, Any] = {}
        for name, encoding, cell in zip(entry["column_names"], encodings, cells, strict=True):
            if encoding in _NUMBERS:
                (values[name],) = struct.unpack("<" + _NUMBERS[encoding], cell)
            elif encoding == "str":
                values[name] = cell.decode()
        yield SourceRow(at, at, values, whole=len(values) == len(cells))
        pictures = {
            n: c for n, e, c in zip(entry["column_names"], encodings, cells, strict=True) if e in ("png", "jpeg")
        }
        if pictures:
            yield SourceRow(at, at, pictures, named=False, whole=False)


def litdata(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields the texts and pictures of a chunk of LitData."""
    data, whole = files.head(shard.path, HELD_BYTES)
    index, _ = files.head(shard.files[0].path, HELD_BYTES)
    kinds = json.loads(index)["config"]["data_format"]
    if not whole or data.endswith(b"LDARW01\0"):
        return
    for at, cells in _spans(data, [None] * len(kinds)):
        values: dict[str, Any] = {}
        for number, (kind, cell) in enumerate(zip(kinds, cells, strict=True)):
            if kind in ("str", "string"):
                values[str(number)] = cell.decode()
            elif kind == "jpeg":
                values[str(number)] = cell
        yield SourceRow(at, at, values, named=False)


def coco(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields results, or the names of pictures."""
    data, whole = files.head(shard.path, HELD_BYTES // 4)
    if not whole:
        return
    document = json.loads(data)
    rows = document if isinstance(document, list) else document["images"]
    for at in ends(len(rows)):
        if isinstance(document, list):
            yield SourceRow(at, at, rows[at])
        elif "file_name" in rows[at]:  # LVIS states only URLs
            yield SourceRow(at, at, {"file_name": rows[at]["file_name"]}, named=False, whole=False)


def avro_rows(files: SourceFiles, shard: Shard) -> int:
    """Returns the number of rows that the blocks of an Avro file state."""
    with files.opened(shard.path) as file:
        if file.read(4) != b"Obj\x01":
            raise ValueError("not Avro")
        while count := _long(file):  # the metadata: pairs of a key and a value
            if count < 0:
                _long(file)
            for _ in range(2 * abs(count)):
                file.read(_long(file))
        mark = file.read(16)
        rows = 0
        while (block := _long(file, end=-1)) >= 0:
            rows += block
            file.seek(_long(file), 1)
            if file.read(16) != mark:
                raise ValueError("a block does not end in the mark")
    return rows


def _long(file: IO[bytes], end: int | None = None) -> int:
    """Reads a zigzag number. Returns `end` at the end of the file if it is given."""
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            if end is not None and not shift:
                return end
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return value >> 1 ^ -(value & 1)
