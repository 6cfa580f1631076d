"""Sample ids: xxh3-128 of the content, so a sample has the same id in every ingestion and every dataset."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import xxhash

from choline_data.schema import CONTENT_FIELDS


def _views(column: pa.Array) -> tuple[memoryview, list[int]]:
    """Returns the bytes of all values of a large_string column, and the offsets of its rows in these bytes (one more
    than rows).
    """
    offsets = pa.Array.from_buffers(
        pa.int64(), len(column) + 1, [None, column.buffers()[1]], offset=column.offset
    ).to_pylist()
    data = column.buffers()[2]
    return memoryview(data if data is not None else b""), offsets


def _encoded(column: pa.Array) -> list[bytes]:
    """Returns each row of a column of any type as bytes. Different rows give different bytes."""
    if pa.types.is_large_string(column.type):
        data, offsets = _views(column)
        return [bytes(data[a:b]) for a, b in pairwise(offsets)]
    out = []
    for row in column.to_pylist():
        parts: list[bytes] = []
        _flatten(row, parts)
        out.append(b"".join(parts))
    return out


def _flatten(value: object, parts: list[bytes]) -> None:
    # Lengths come first, so that different sequences of values never give the same bytes.
    if isinstance(value, dict):
        for item in value.values():
            _flatten(item, parts)
    elif isinstance(value, list):
        parts.append(b"[%d" % len(value))
        for item in value:
            _flatten(item, parts)
    elif value is None:
        parts.append(b"N")
    else:
        raw = value if isinstance(value, bytes) else str(value).encode()
        parts.append(b"%d:" % len(raw))
        parts.append(raw)


def sample_ids(batch: pa.RecordBatch) -> pa.Array:
    """Returns the id of each row: a hash of its text, turns, media and label. If a row has none of these, the hash of
    its `extra`.
    """
    rows = batch.num_rows
    present = [name for name in CONTENT_FIELDS if name in batch.schema.names and batch[name].null_count < rows]
    digest = xxhash.xxh3_128_digest
    # A fast path: the ids of all rows depend on the same text column, so rows need no separate inspection.
    alone = ("text", 1) if present == ["text"] and not batch["text"].null_count else ("extra", 2)
    if alone[0] == "text" or (not present and "extra" in batch.schema.names):
        data, offsets = _views(batch[alone[0]])
        return _as_ids(b"".join([digest(data[a:b], alone[1]) for a, b in pairwise(offsets)]), rows)
    columns = {name: _encoded(batch[name]) for name in present}
    valid = {name: batch[name].is_valid().to_pylist() for name in present}
    extra: list[bytes] | None = None
    out: list[bytes] = []
    for row in range(rows):
        having = [name for name in present if valid[name][row]]
        if having == ["text"]:
            out.append(digest(columns["text"][row], 1))
            continue
        if not having:
            if extra is None:
                extra = _encoded(batch["extra"]) if "extra" in batch.schema.names else [b""] * rows
            out.append(digest(extra[row], 2))
            continue
        state = xxhash.xxh3_128(seed=3)
        for name in having:
            content = columns[name][row]
            state.update(b"%s=%d:" % (name.encode(), len(content)))
            state.update(content)
        out.append(state.digest())
    return _as_ids(b"".join(out), rows)


def _as_ids(ids: bytes, rows: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(ids)])
