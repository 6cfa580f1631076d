"""Collects rows one by one into chunks. For formats whose rows are files, archive members or records, not columns."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import BATCH_BYTES, BATCH_ROWS, Reject, Shard, SourceChunk, SourceFile
from choline_data.adapters.reading.media import MEDIUM
from choline_data.adapters.reading.records import json_column, json_field

TYPES: Mapping[str, pa.DataType] = {
    "image": MEDIUM,
    "audio": MEDIUM,
    "video": MEDIUM,
    "text": pa.large_string(),
    "caption": pa.string(),
    "transcription": pa.string(),
    "path": pa.string(),
}


class SourceRows:
    """Builds a chunk from rows. Columns keep the order of their first occurrence. A value that a row lacks is null.

    `origin` is the shard's origin; it applies to rows without a file of their own. A row with a lone surrogate, which is not
    a character, is rejected.
    """

    def __init__(self, origin: str, types: Mapping[str, pa.DataType] | None = None) -> None:
        self._origin = origin
        self._types = {**TYPES, **(types or {})}
        self._columns: dict[str, None] = dict.fromkeys(types or ())
        self._clear()

    def _clear(self) -> None:
        self._values: list[Mapping[str, Any]] = []
        self._numbers: list[int] = []
        self._files: list[str | None] = []
        self._rejects: list[Reject] = []
        self._bytes = 0

    def add(self, row: int, values: Mapping[str, Any], size: int, file: str | None = None) -> None:
        """Adds row number `row`, of about `size` bytes. `file` is its file if this differs from the shard's origin."""
        self._columns.update(dict.fromkeys(values))
        self._values.append(values)
        self._numbers.append(row)
        self._files.append(file)
        self._bytes += size

    def reject(self, row: int, reason: str, file: str | None = None) -> None:
        """Records that row number `row` was read but cannot become a sample."""
        self._rejects.append(Reject(file or self._origin, row, reason))

    def full(self, more: int = 0) -> bool:
        """Whether the chunk should be taken before `more` bytes are added."""
        count = len(self._values) + len(self._rejects)
        return count >= BATCH_ROWS or (count > 0 and self._bytes + more > BATCH_BYTES)

    def take(self) -> Iterator[SourceChunk]:
        """Yields the collected rows as one chunk and clears them. Yields nothing if there are none."""
        if not self._values and not self._rejects:
            return
        try:
            batch = self._batch()
        except UnicodeEncodeError:
            self._reject_surrogates()
            batch = self._batch()
        files = pa.array(self._files, pa.string()) if any(f is not None for f in self._files) else None
        yield SourceChunk(batch, np.array(self._numbers, dtype=np.int64), tuple(self._rejects), files)
        self._clear()

    def _batch(self) -> pa.RecordBatch:
        if not self._columns:
            return pa.RecordBatch.from_pydict({"path": pa.nulls(len(self._values), pa.string())})
        columns = [
            column_of(name, [v.get(name) for v in self._values], self._types.get(name)) for name in self._columns
        ]
        return pa.RecordBatch.from_arrays(
            [array for _, array in columns], schema=pa.schema([field for field, _ in columns])
        )

    def _reject_surrogates(self) -> None:
        valid = []
        for at, values in enumerate(self._values):
            bad = next((name for name, value in values.items() if _has_surrogate(value)), None)
            if bad is None:
                valid.append(at)
            else:
                self.reject(self._numbers[at], f"{bad}: a lone surrogate, which is no character", self._files[at])
        self._rejects.sort(key=lambda r: r.row)
        self._values = [self._values[at] for at in valid]
        self._numbers = [self._numbers[at] for at in valid]
        self._files = [self._files[at] for at in valid]


def _of_one_type(values: Sequence[Any], kind: pa.DataType | None) -> pa.Array | None:
    """Returns the values as an Arrow array. None if they have no common type, which only the attempt to convert them can show."""
    if {bytes, str} <= {type(v) for v in values}:  # Arrow would convert text to bytes without an error
        return None
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def column_of(name: str, values: Sequence[Any], kind: pa.DataType | None = None) -> tuple[pa.Field, pa.Array]:
    """Returns the values as one column, or as JSON text if they have no common type.

    Raises UnicodeEncodeError at a lone surrogate.
    """
    column = _of_one_type(values, kind)
    if column is not None:
        return pa.field(name, column.type), column
    return json_field(name), json_column(as_json(v) for v in values)


def as_json(value: Any) -> Any:
    """Returns the value as JSON types; other types are written as in `extra`. Raises UnicodeEncodeError at a lone surrogate."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, bytes):
        return {"$binary": base64.b64encode(value).decode()}
    elif isinstance(value, float):
        return value if math.isfinite(value) else _NO_NUMBERS[str(value)]
    elif isinstance(value, Mapping):
        return {as_json(str(key)): as_json(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    elif not isinstance(value, (int, type(None))):
        return str(value)
    return value


_NO_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _has_surrogate(value: Any) -> bool:
    try:
        as_json(value)
    except UnicodeEncodeError:
        return True
    return False


SHARD_FILES = 4096
SHARD_BYTES = 256 << 20


def file_shards(files: Sequence[SourceFile], split: str = "") -> list[Shard]:
    """Returns shards whose rows are these files. A shard has at most SHARD_FILES files and SHARD_BYTES bytes, and all
    its files have one split and one config. Within a split the files keep their order.

    A file larger than SHARD_BYTES is a shard alone.
    """
    shards: list[Shard] = []
    group: list[SourceFile] = []
    size = 0

    def close() -> None:
        if group:
            known = sum(max(f.size, 0) for f in group)
            shards.append(Shard(group[0].path, group[0].name, files=tuple(group), size=known, split=split))

    by_split: dict[tuple[str, str], list[SourceFile]] = {}
    for file in files:
        by_split.setdefault((file.config, file.split), []).append(file)
    for file in chain.from_iterable(by_split.values()):
        other = group and (file.config, file.split) != (group[0].config, group[0].split)
        if group and (other or len(group) >= SHARD_FILES or size + max(file.size, 0) > SHARD_BYTES):
            close()
            group, size = [], 0
        group.append(file)
        size += max(file.size, 0)
    close()
    return shards
