"""Reads TFRecord files of tf.train.Example and SequenceExample. Parses the framing and the protobuf itself.

The features of a SequenceExample are columns; a list of features is a list with an item for each step.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io, media
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.reading.tar_stream import PieceStream
from choline_data.errors import SourceDamagedError, SourceTooLargeError


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _table()


def masked_crc32c(data: bytes) -> int:
    """Returns the masked CRC-32C that TFRecord uses: the checksum, rotated, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@dataclass(frozen=True)
class TfRecord:
    """Reads one Example for each row, with a column for each feature. A record that is not an Example is a column `record`.

    `check="lengths"` checks only the checksums of the lengths. The checksums of the bodies are slow (a few MB/s).
    """

    check: str = "all"
    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the records from number `start` on. If the file is damaged, yields the whole records before the
        damage, then raises.
        """
        rows = SourceRows(shard.origin)
        try:
            for number, record in enumerate(self._records(shard)):
                if number < start:
                    continue
                if rows.full(len(record)):
                    yield from rows.take()
                rows.add(number, _values(record), len(record))
        except SourceDamagedError:
            yield from rows.take()
            raise
        yield from rows.take()

    def _records(self, shard: Shard) -> Iterator[bytes]:
        stream = PieceStream(io.pieces(shard.path, shard.name))
        while head := stream.read(12):
            at = stream.position - len(head)
            if len(head) < 12 or masked_crc32c(head[:8]) != int.from_bytes(head[8:], "little"):
                raise _damaged(shard.name, at, "length is truncated or corrupt")
            size = int.from_bytes(head[:8], "little")
            if size > self.max_bytes:
                raise SourceTooLargeError(
                    f"{shard.name}: the record at byte {at} has {size:,} bytes, above {self.max_bytes:,}.",
                    remedy="Raise max_bytes.",
                )
            body, crc = stream.read(size), stream.read(4)
            if len(body) < size or len(crc) < 4:
                raise _damaged(shard.name, at, "body is truncated")
            if self.check == "all" and masked_crc32c(body) != int.from_bytes(crc, "little"):
                raise _damaged(shard.name, at, "body is corrupt")
            yield body


ADAPTER = TfRecord


def _damaged(name: str, at: int, what: str) -> SourceDamagedError:
    return SourceDamagedError(f"{name}: the record at byte {at}: its {what}.", remedy="Fetch the file again.")


def _values(record: bytes) -> dict[str, Any]:
    try:
        features, lists = sequence_example(record)
    except (ValueError, IndexError, struct.error):
        return {"record": record}
    steps_of_episode = _episode(features)
    values = {name: _plain(found) for name, found in features.items() if name not in steps_of_episode}
    values |= steps_of_episode
    for name, steps in lists.items():
        values[f"{name}/steps" if name in values else name] = _steps(steps)
    return values or {"record": record}


def _episode(features: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Returns the features of the steps of an episode (RLDS), such as `steps/action`, as lists with an item for each step.

    The file holds the values of all steps in one list. `steps/is_first` and similar features have one value for each step.
    Empty if they have no such parts.
    """
    found = {name: values for name, values in features.items() if name.startswith(STEPS)}
    counts = {len(values) for name, values in found.items() if name.removeprefix(STEPS) in _ONCE and values}
    if len(counts) != 1:
        return {}
    (count,) = counts
    if any(len(values) % count for values in found.values()):
        return {}
    parted = {
        name: [values[at : at + len(values) // count] for at in range(0, len(values), len(values) // count)]
        for name, values in found.items()
        if values
    }
    return {name: _steps(values) for name, values in parted.items()}


def _steps(steps: list[list[Any]]) -> list[Any]:
    """Returns the steps of a list of features. If each step has one value, the list has these values."""
    if all(len(step) == 1 for step in steps):
        flat = [step[0] for step in steps]
        return _in_utf8(flat)
    return [_in_utf8(step) for step in steps]


def _in_utf8(values: list[Any]) -> list[Any]:
    """Returns bytes as text if all of them are UTF-8. Other values stay."""
    if values and isinstance(values[0], bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return [value.decode() for value in values]
    return values


def _plain(values: list[Any]) -> Any:
    """Returns a feature with one value as that value. Bytes that are a medium become a medium; bytes in UTF-8 become text."""
    if values and isinstance(values[0], bytes):
        column = media.mime_of(values[0][:4096]).split("/")[0]
        if len(values) == 1 and column in ("image", "audio", "video") and not media.probe(values[0]).fault:
            return {"bytes": values[0], "path": None}
        values = _in_utf8(values)
    return values[0] if len(values) == 1 else values


def sequence_example(data: bytes) -> tuple[dict[str, list[Any]], dict[str, list[list[Any]]]]:
    """Returns the features of a serialized Example, or the context and the lists of features of a SequenceExample."""
    found: dict[str, list[Any]] = {}
    lists: dict[str, list[list[Any]]] = {}
    for number, features in _fields(data):
        if number not in (1, 2) or not isinstance(features, bytes):
            raise ValueError("no Example")
        for _, entry in _fields(features):
            parts = dict(_fields(entry if isinstance(entry, bytes) else b""))
            key, feature = parts.get(1), parts.get(2, b"")
            if not isinstance(key, bytes) or not isinstance(feature, bytes):
                raise ValueError("no Feature")
            if number == 1:
                found[key.decode()] = _feature(feature)
            else:
                steps = [step for _, step in _fields(feature)]
                lists[key.decode()] = [_feature(step if isinstance(step, bytes) else b"") for step in steps]
    return found, lists


def _feature(feature: bytes) -> list[Any]:
    values: list[Any] = []
    for kind, listed in _fields(feature):
        values += _list(kind, listed if isinstance(listed, bytes) else b"")
    return values


def _list(kind: int, data: bytes) -> list[Any]:
    values: list[Any] = []
    for _, value in _fields(data):
        if kind == 1:
            values.append(value)
        elif kind == 2:
            packed = value if isinstance(value, bytes) else b""
            values += struct.unpack(f"<{len(packed) // 4}f", packed)
        elif isinstance(value, bytes):
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                values.append(number - (1 << 64) if number >> 63 else number)
        else:
            values.append(value - (1 << 64) if value >> 63 else value)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        size, at = (8, at) if wire == 1 else (4, at) if wire == 5 else _varint(data, at)
        if wire not in (1, 2, 5) or at + size > len(data):
            raise ValueError("no protobuf")
        yield tag >> 3, data[at : at + size]
        at += size


STEPS = "steps/"
_ONCE = frozenset({"is_first", "is_last", "is_terminal", "reward", "discount"})  # features with one value for each step
_NAMES = re.compile(r"tfrec|\.(tfr|tf|rec|records?)(\.\w+)?$|-\d+-of-\d+$", re.IGNORECASE)
_DESCRIPTORS = frozenset({"features.json", "dataset_info.json"})  # files of TensorFlow Datasets


def detect(source: Source) -> list[FormatClaim]:
    """Claims files that are named like TFRecord files, and are empty or begin with a length whose checksum is correct."""
    found = [f for f in source.files if _NAMES.search(parts(f.name)[-1]) and _framed(f)]
    if not found:
        return []
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    folders = {f.name.rpartition("/")[0] for f in found}
    beside = [f for f in source.files if f.name.rpartition("/")[0] in folders and parts(f.name)[-1] in _DESCRIPTORS]
    described = tuple((f.name, "describes the records beside it") for f in beside if f not in found)
    evidence = f"{len(found)} TFRecord file(s)"
    return [FormatClaim(TfRecord(), tuple(found), 1.0, evidence, passed_over=passed, described=described)]


def _framed(file: SourceFile) -> bool:
    head = io.head(file.path, 12)
    if not head:
        return "tfrec" in file.name.lower()
    return len(head) == 12 and masked_crc32c(head[:8]) == int.from_bytes(head[8:], "little")
