"""Operations on record batches that any adapter may need: check the schema, decode, add partition columns, limit the size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.base import BATCH_BYTES, BATCH_ROWS, Reject, SourceChunk
from choline_data.columns.arrow_values import array_of, byte_lengths, constant, fill_nulls, numbers
from choline_data.errors import SourceFormatError, SourceTooLargeError, one_line

MAX_COLUMNS = 2000
MAX_NAME_BYTES = 1024
MAX_DEPTH = 32  # an Arrow IPC reader gives up at 64 levels
_INT32 = 2**31 - 1
# View types, and a plain type for each. Of a list type, only the kind is used, not the type of its values.
_VIEWS: dict[int, pa.DataType] = {
    pa.string_view().id: pa.large_string(),
    pa.binary_view().id: pa.large_binary(),
    pa.list_view(pa.null()).id: pa.list_(pa.null()),
    pa.large_list_view(pa.null()).id: pa.large_list(pa.null()),
}


def depth_and_fields(kind: pa.DataType) -> tuple[int, int]:
    """Returns the nesting depth of a type, and its number of fields. Does not recurse."""
    level, deep, wide = [kind], 0, 0
    while level:
        wide += len(level)
        deep += 1
        level = [t.field(i).type for t in level for i in range(t.num_fields)]
    return deep, wide


def check_columns(schema: pa.Schema, name: str) -> None:
    """Refuses a schema with too many columns, duplicate or overlong column names, or types that are nested too deeply.

    Raises SourceTooLargeError or SourceFormatError.
    """
    if len(schema) > MAX_COLUMNS:
        raise SourceTooLargeError(
            f"{name} has {len(schema):,} columns; the limit (MAX_COLUMNS) is {MAX_COLUMNS:,}.",
            remedy="Split it, or fold the columns into one list column.",
        )
    seen: set[str] = set()
    for at, f in enumerate(schema):
        if f.name in seen:
            raise SourceFormatError(
                f"{name} has two columns named {one_line(f.name, 60)!r}.",
                remedy="Rename one of them in the file.",
            )
        seen.add(f.name)
        if len(f.name.encode()) > MAX_NAME_BYTES:
            raise SourceFormatError(
                f"{name}: the name of column {at} has {len(f.name):,} characters.",
                remedy="Give it a shorter one.",
            )
        if depth_and_fields(f.type)[0] > MAX_DEPTH:
            raise SourceTooLargeError(
                f"{name}: column {one_line(f.name, 60)!r} is nested deeper than the limit (MAX_DEPTH), {MAX_DEPTH}.",
                remedy="Store it as JSON text.",
            )
        _check_type(f.type, f"{name}: column {one_line(f.name, 60)!r}")


def _check_type(kind: pa.DataType, where: str) -> None:
    """Refuses a type whose values would be ambiguous: a struct with duplicate field names, or an unknown time zone."""
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        doubled = next((n for n in names if names.count(n) > 1), None) if len(set(names)) < len(names) else None
        if doubled is not None:
            raise SourceFormatError(
                f"{where} has two fields named {one_line(doubled, 60)!r}.", remedy="Rename one of them in the file."
            )
    elif pa.types.is_timestamp(kind) and kind.tz and kind.tz != "UTC":
        try:
            pa.array([0], pa.int64()).cast(kind).cast(pa.string())
        except pa.ArrowException as error:
            raise SourceFormatError(
                f"{where} has the time zone {one_line(kind.tz, 60)!r}, which this machine does not know.",
                remedy="Install the tzdata of this system, or write the file again in UTC.",
            ) from error
    if pa.types.is_dictionary(kind):
        _check_type(kind.value_type, where)
    for number in range(kind.num_fields):
        _check_type(kind.field(number).type, where)


def storage(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with extension types replaced by their storage types, and views and run-end encodings by plain arrays."""
    if not any(_is_odd(c.type) for c in batch.columns):
        return batch
    columns = [_plain(c) for c in batch.columns]
    fields = [old.with_type(c.type) for old, c in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, metadata=batch.schema.metadata))


def _is_odd(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType) or _VIEWS.get(kind.id) or pa.types.is_run_end_encoded(kind):
        return True
    if pa.types.is_union(kind):  # unions are written row by row, so the types of their values do not matter
        return False
    if pa.types.is_dictionary(kind):
        return _is_odd(kind.value_type)
    return any(_is_odd(kind.field(i).type) for i in range(kind.num_fields))


def _plain(column: pa.Array) -> pa.Array:
    """Converts the array to a type that every consumer supports."""
    kind = column.type
    if not _is_odd(kind):
        return column
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_run_end_encoded(kind):
        return _plain(_run_of(column))
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(column.indices, _plain(column.dictionary))
    if pa.types.is_struct(kind):
        children = [_plain(child) for child in column.flatten()]
        fields = [old.with_type(child.type) for old, child in zip(kind, children, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=column.is_null())
    if kind.id in (pa.string_view().id, pa.binary_view().id):
        return column.cast(_VIEWS[kind.id])
    return _plain_list(column)


def _plain_list(column: pa.Array) -> pa.Array:
    """Converts a list view to a plain list. Converts a list or a map with values of an unusual type to one with plain values."""
    # This code uses no cast, because Arrow's cast of a list view with nulls loses values.
    kind, mask = column.type, column.is_null()
    offsets = np.zeros(len(column) + 1, np.int64)
    if pa.types.is_map(kind):
        starts = numbers(column.offsets).astype(np.int64)
        np.cumsum(np.where(numbers(mask), 0, np.diff(starts)), out=offsets[1:])
        lists = column.cast(pa.large_list(pa.struct([kind.key_field, kind.item_field])))
        keys, items = (_plain(child) for child in lists.flatten().flatten())
        return pa.MapArray.from_arrays(offsets.astype(np.int32), keys, items, mask=mask)
    np.cumsum(numbers(fill_nulls(pc.list_value_length(column), 0)), out=offsets[1:])
    values = _plain(column.flatten())
    plain = pa.LargeListArray.from_arrays(array_of(offsets), values, mask=mask)
    return plain if offsets[-1] > _INT32 else plain.cast(pa.list_(plain.type.value_field))


def _run_of(column: pa.Array) -> pa.Array:
    """Converts run-end encoded values to a dictionary array. It stays small, and `decoded` later decodes it in bounded
    pieces.
    """
    first, count = column.find_physical_offset(), column.find_physical_length()
    ends = numbers(column.run_ends)[first : first + count].astype(np.int64) - column.offset
    lengths = np.diff(np.minimum(ends, len(column)), prepend=0)
    indices = np.repeat(np.arange(count, dtype=np.int32), lengths)
    return pa.DictionaryArray.from_arrays(array_of(indices), column.values.slice(first, count))


def decoded(batch: pa.RecordBatch, name: str, max_row_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yields the batch with dictionaries decoded, in pieces of at most BATCH_BYTES of decoded values. A larger row is a
    piece alone.

    Raises SourceTooLargeError if the decoded values of a row exceed `max_row_bytes`.
    """
    if not any(pa.types.is_dictionary(c.type) for c in batch.columns):
        yield batch
        return
    lengths = [
        (_lengths(column.dictionary), column.indices)
        for column in batch.columns
        if pa.types.is_dictionary(column.type) and not pa.types.is_primitive(column.type.value_type)
    ]
    longest = sum(int(each.max()) for each, _ in lengths if len(each))
    if longest * batch.num_rows <= BATCH_BYTES and longest <= max_row_bytes:
        yield _decoded(batch)
        return
    sizes = np.zeros(batch.num_rows, np.int64)
    for each, indices in lengths:
        sizes += numbers(fill_nulls(array_of(each).take(indices), 0))
    if len(sizes) and sizes.max() > max_row_bytes:
        raise SourceTooLargeError(
            f"{name}: a row has {int(sizes.max()):,} bytes; the limit (max_row_bytes) is {max_row_bytes:,}.",
            remedy="Write it again with smaller values.",
        )
    ends = np.cumsum(sizes)
    at = 0
    while at < batch.num_rows:
        before = int(ends[at - 1]) if at else 0
        to = max(at + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        yield _decoded(batch.slice(at, to - at))
        at = to


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    """Returns the size of each value in bytes. For nested values, the size of the whole array."""
    return byte_lengths(values) if _is_bytes(values.type) else np.full(len(values), values.nbytes, np.int64)


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def partitions(name: str) -> dict[str, str | None]:
    """Returns the Hive partition columns in the folders of a file's name: `year=2024/x.parquet` gives {"year": "2024"}."""
    values: dict[str, str | None] = {}
    for folder in name.split("/")[:-1]:
        key, sign, value = folder.partition("=")
        if sign and key:
            values[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return values


def with_partitions(batch: pa.RecordBatch, values: dict[str, str | None]) -> pa.RecordBatch:
    """Returns the batch with these constants added as text columns. Columns that the batch already has stay."""
    for key, value in values.items():
        if key not in batch.schema.names:
            batch = batch.append_column(key, pa.repeat(constant(value, pa.string()), batch.num_rows))
    return batch


def partitioned(chunks: Iterator[SourceChunk], name: str) -> Iterator[SourceChunk]:
    """Yields the chunks of a file with the partition columns of its name."""
    values = partitions(name)
    if not values:
        return chunks
    return (replace(c, batch=with_partitions(c.batch, values)) if c.batch.num_rows else c for c in chunks)


def bounded(batch: pa.RecordBatch, rows: np.ndarray, rejects: tuple[Reject, ...] = ()) -> Iterator[SourceChunk]:
    """Yields the rows in chunks of at most BATCH_BYTES and BATCH_ROWS. A larger row is a chunk alone.

    Each reject is in the first chunk whose last row number is not lower, or else in the last chunk.
    """
    spans = list(_spans(batch, 0, batch.num_rows))
    if not spans:
        if rejects:
            yield SourceChunk(batch, rows, rejects)
        return
    left = list(rejects)
    for start, count in spans:
        last = start + count == batch.num_rows
        here = rows[start : start + count]
        mine = tuple(left) if last else tuple(r for r in left if r.row <= here[-1])
        left = left[len(mine) :]
        yield SourceChunk(batch.slice(start, count), here, mine)


def _spans(batch: pa.RecordBatch, start: int, count: int) -> Iterator[tuple[int, int]]:
    for at in range(start, start + count, BATCH_ROWS):
        size = min(BATCH_ROWS, start + count - at)
        if size > 1 and batch.slice(at, size).nbytes > BATCH_BYTES:
            yield from _halves(batch, at, size)
        else:
            yield at, size


def _halves(batch: pa.RecordBatch, at: int, size: int) -> Iterator[tuple[int, int]]:
    half = size // 2
    for start, count in ((at, half), (at + half, size - half)):
        if count > 1 and batch.slice(start, count).nbytes > BATCH_BYTES:
            yield from _halves(batch, start, count)
        elif count:
            yield start, count
