"""Rows gathered one by one into chunks: for formats whose rows are files, members or records, not columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from choline_data.adapters.base import BATCH_BYTES, BATCH_ROWS, Chunk, Reject, Shard, SourceFile
from choline_data.adapters.media import MEDIUM

TYPES: Mapping[str, pa.DataType] = {
    "image": MEDIUM,
    "audio": MEDIUM,
    "video": MEDIUM,
    "text": pa.large_string(),
    "caption": pa.string(),
    "transcription": pa.string(),
    "path": pa.string(),
}


class Rows:
    """A chunk in the making. Columns keep the order in which they first came; what a row lacks is null."""

    def __init__(self, types: Mapping[str, pa.DataType] | None = None) -> None:
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
        """Row number `row`, about `size` bytes, from `file` where that is not the shard itself."""
        self._columns.update(dict.fromkeys(values))
        self._values.append(values)
        self._numbers.append(row)
        self._files.append(file)
        self._bytes += size

    def reject(self, row: int, file: str, reason: str) -> None:
        """Row number `row` was read and can't become a sample."""
        self._rejects.append(Reject(file, row, reason))

    def full(self, more: int = 0) -> bool:
        """Whether the chunk should go out before `more` bytes come in."""
        count = len(self._values) + len(self._rejects)
        return count >= BATCH_ROWS or (count > 0 and self._bytes + more > BATCH_BYTES)

    def take(self) -> Iterator[Chunk]:
        """What was gathered, as one chunk; none where there is nothing."""
        if not self._values and not self._rejects:
            return
        columns = {
            name: column_of([v.get(name) for v in self._values], self._types.get(name)) for name in self._columns
        }
        batch = pa.RecordBatch.from_pydict(columns) if columns else _no_columns(len(self._values))
        files = pa.array(self._files, pa.string()) if any(f is not None for f in self._files) else None
        yield Chunk(batch, np.array(self._numbers, dtype=np.int64), tuple(self._rejects), files)
        self._clear()


def _no_columns(rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"path": pa.nulls(rows, pa.string())})


def column_of(values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Array:
    """The values as one column; as JSON text where their types don't go together."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeError):
        return pa.array([None if v is None else _json(v) for v in values], pa.large_string())


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


SHARD_FILES = 4096
SHARD_BYTES = 256 << 20


def file_shards(files: Sequence[SourceFile], split: str = "", unit: str = "") -> list[Shard]:
    """Shards whose rows are these files, in the given order, of at most SHARD_FILES files and SHARD_BYTES bytes."""
    shards: list[Shard] = []
    group: list[SourceFile] = []
    size = 0

    def close() -> None:
        if group:
            known = sum(max(f.size, 0) for f in group)
            shards.append(Shard(group[0].path, group[0].name, files=tuple(group), size=known, split=split))

    for file in files:
        if group and (len(group) >= SHARD_FILES or size + max(file.size, 0) > SHARD_BYTES):
            close()
            group, size = [], 0
        group.append(file)
        size += max(file.size, 0)
    close()
    return shards
