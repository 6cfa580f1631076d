"""Converts records (JSON objects) to columns. The result does not depend on the parser that reads a line.

`pyarrow.json` parses a block of lines at once. If it refuses the block or would change a value (an integer above 2**53
beside a float), the lines are checked one by one. Invalid lines become rejects. A column whose values differ in type is kept
as JSON text in a string column with the field metadata `{b"json": b"1"}`. Dates in strings stay text. `number_tokens` keeps
integers beside floats apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from choline_data.adapters.base import BATCH_BYTES, Reject, SourceChunk
from choline_data.adapters.reading.batches import MAX_COLUMNS, MAX_DEPTH, bounded, depth_and_fields
from choline_data.adapters.reading.number_tokens import mixes_numbers, with_integers
from choline_data.errors import one_line

MAX_FIELDS = 1000  # fields within one nested column; an object with more keys (a dictionary of ids) stays JSON
JSON_FIELD = {b"json": b"1"}

_MANY_BRACKETS = 2000  # RapidJSON recurses on the stack: 20,000 levels crash the process
_END_BYTES = 64  # number of bytes at a block's end that are checked for a complete last line
_FIRST_BYTES = 16 << 10  # number of bytes at a block's start that are read to learn its columns
_PIECE = 128 << 10
_LONG_INTEGER = re.compile(rb"\d{19,}")
_BIG = float(1 << 53)

Bytes = npt.NDArray[np.uint8]
Test = Callable[[Bytes], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Records:
    """Consecutive records: their columns, the index of each row among the block's records, and the refused records.

    `refused` holds (index, reason) pairs.
    """

    batch: pa.RecordBatch
    places: np.ndarray
    refused: tuple[tuple[int, str], ...] = ()


def json_field(name: str) -> pa.Field:
    """Returns the field of a column of JSON text. It is used if the column's values have no common type."""
    return pa.field(name, pa.large_string(), metadata=JSON_FIELD)


def json_column(values: Iterable[object]) -> pa.Array:
    """Returns the values as JSON text; None stays null. The column's field is `json_field`."""
    return pa.array([None if v is None else dumps(v).decode() for v in values], pa.large_string())


def dumps(value: object) -> bytes:
    """Returns `value` as JSON. Integers of any size stay exact."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer over 64 bits, or a lone surrogate, which is refused when the JSON is parsed again
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode() if text.isprintable() else json.dumps(value).encode()


def records_of_rows(rows: Iterable[object]) -> Iterator[Records]:
    """Yields parsed records as columns, each time a bounded number of bytes. `places` count from 0 over all records."""
    lines: list[bytes] = []
    size = done = 0
    for row in rows:
        lines.append(dumps(row))
        size += len(lines[-1]) + 1
        if size >= BATCH_BYTES:
            yield from _moved(records_of_lines(b"\n".join(lines)), done)
            done += len(lines)
            lines, size = [], 0
    if lines:
        yield from _moved(records_of_lines(b"\n".join(lines)), done)


def _moved(records: Iterator[Records], by: int) -> Iterator[Records]:
    for r in records:
        yield Records(r.batch, r.places + by, tuple((place + by, why) for place, why in r.refused))


def records_of_lines(block: bytes) -> Iterator[Records]:
    """Yields the block's non-blank lines as columns. Only LF ends a line. If a key is duplicate, the last value counts."""
    table = _whole(block)
    if table is not None:
        yield Records(_one_batch(table), np.arange(table.num_rows, dtype=np.int64))
        return
    good: list[bytes] = []
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    refused: list[tuple[int, str]] = []
    lines = (line for line in block.split(b"\n") if line.strip(b" \t\r"))
    for place, line in enumerate(lines):
        try:
            row = checked_loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"the line holds {_called(row)}, not an object")
            if len(row) > MAX_COLUMNS:
                raise ValueError(f"{len(row):,} keys; a row may have {MAX_COLUMNS:,}")
        except ValueError as error:
            refused.append((place, str(error)))
            continue
        good.append(line)
        rows.append(row)
        places.append(place)
    if rows and not any(rows):
        refused = sorted([*refused, *((place, "an object without keys") for place in places)])
        rows, good, places = [], [], []
    batches = list(_columns(good, rows)) if rows else [pa.RecordBatch.from_arrays([], names=[])]
    at = 0
    for n, batch in enumerate(batches):
        here = np.asarray(places[at : at + batch.num_rows], dtype=np.int64)
        at += batch.num_rows
        yield Records(batch, here, tuple(refused) if n == 0 else ())


def checked_loads(line: bytes) -> Any:
    """Returns the JSON value of a line.

    Raises ValueError with the reason if the line is not RFC 8259 JSON that we can keep exactly.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(_why(line, error)) from error
    if _LONG_INTEGER.search(line):  # orjson converts integers over 64 bits to floats
        try:
            return json.loads(line)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
    return value


def _why(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"not UTF-8 at byte {bad.start}"
    text = one_line(error.msg, 120)
    if "recursion limit" in text or "depth limit" in text:
        return "nested too deeply"
    line_number = f"line {error.lineno}, " if error.lineno > 1 else ""
    return f"not JSON: {text} ({line_number}column {error.colno})"


def _called(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _whole(block: bytes) -> pa.Table | None:
    """Returns the block as pyarrow reads it. None if a line is not exactly one object, or if a value would change."""
    if not block.startswith(b"{") or not block[-_END_BYTES:].rstrip(b"\r\n").endswith(b"}"):
        return None
    # "}\n{" cannot be inside a JSON object. So if there are as many rows as lines, each line is exactly one object.
    if b"\r" in block:
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        if block.count(b"\r") != block.count(b"\r\n") or block.count(b"}\r\n{") != lines - 1:
            return None
    else:
        text = np.frombuffer(block, np.uint8)
        breaks = _places(text, _is_break)
        lines = len(breaks) + (not block.endswith(b"\n"))
        between = breaks[: lines - 1]
        if (text[between - 1] != 0x7D).any() or (text[between + 1] != 0x7B).any():
            return None
    table = _arrow(block, lines)
    return table if table is not None and table.num_rows == lines and table.num_columns else None


def _arrow(block: bytes, lines: int) -> pa.Table | None:
    """Returns the block of `lines` objects as pyarrow.json reads it, with all strings as text. None if values would be lost."""
    if not _shallow(block, lines) or not _is_utf8(block):
        return None
    first, known = _dates(block)
    try:
        table = _read(block, known)
        texts = tuple(
            pa.field(f.name, _without_times(f.type)) for f in table.schema if _without_times(f.type) != f.type
        )
        # Restores the block's column order, because pyarrow puts the columns with an explicit type first.
        order = [*first, *(name for name in table.column_names if name not in first)]
        if texts:
            table = _read(block, (*known, *texts))
        if known or texts:
            table = table.select(order)
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_columns > MAX_COLUMNS or any(not _fits(f.type) for f in table.schema):
        return None
    return None if any(_inexact(c) for column in table.columns for c in column.chunks) else with_integers(table, block)


def _dates(block: bytes) -> tuple[list[str], tuple[pa.Field, ...]]:
    """Returns the columns of the block's first lines, and text fields for those that hold dates in strings.

    With these fields, one parse of the block is enough. Otherwise pyarrow.json converts dates, and the block is parsed a
    second time to keep them as text. This still happens if dates occur only later or inside nested values.
    """
    end = block.find(b"\n", _FIRST_BYTES)
    if not 0 <= end < len(block) // 8:
        return [], ()
    try:
        schema = _read(block[:end], ()).schema
    except pa.ArrowException:
        return [], ()
    return schema.names, tuple(pa.field(f.name, pa.string()) for f in schema if pa.types.is_temporal(f.type))


def _read(block: bytes, fields: tuple[pa.Field, ...]) -> pa.Table:
    table = pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 64),
        parse_options=pj.ParseOptions(explicit_schema=pa.schema(fields) if fields else None),
    )
    table.validate(full=True)  # pyarrow 25 returns broken arrays for lists that begin with null: `[null, 1]`
    return table


def _shallow(block: bytes, lines: int) -> bool:
    """Whether none of the block's objects is nested so deeply that a recursive parser would run out of stack."""
    text = np.frombuffer(block, np.uint8)
    if _count(text, _is_bracket) - lines < _MANY_BRACKETS:  # each line has at least one bracket
        return True
    brackets = _places(text, _is_bracket)
    line_of = np.searchsorted(_places(text, _is_break), brackets)
    if (line_of[_MANY_BRACKETS:] != line_of[:-_MANY_BRACKETS]).all():
        return True
    try:
        for line in block.split(b"\n"):
            if line.count(b"{") + line.count(b"[") > _MANY_BRACKETS:
                orjson.loads(line)  # refuses more than 1,024 levels; RapidJSON can handle 1,024
    except orjson.JSONDecodeError:
        return False
    return True


def _is_utf8(block: bytes) -> bool:
    # Arrow's check avoids a Python string, which would take up to four times the block's memory.
    offsets = pa.py_buffer(np.array([0, len(block)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(block)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_break(piece: Bytes) -> npt.NDArray[np.bool_]:
    breaks: npt.NDArray[np.bool_] = piece == 0x0A
    return breaks


def _is_bracket(piece: Bytes) -> npt.NDArray[np.bool_]:
    brackets: npt.NDArray[np.bool_] = piece | 0x20 == 0x7B  # { and [ differ in one bit
    return brackets


def _pieces(text: Bytes) -> Iterator[tuple[int, Bytes]]:
    """Yields (start offset, piece) of the text, in pieces small enough for the processor's cache."""
    return ((at, text[at : at + _PIECE]) for at in range(0, len(text), _PIECE))


def _count(text: Bytes, test: Test) -> int:
    """Returns the number of bytes that pass the test."""
    return sum(int(np.count_nonzero(test(piece))) for _, piece in _pieces(text))


def _places(text: Bytes, test: Test) -> npt.NDArray[np.int64]:
    """Returns the offsets of the bytes that pass the test."""
    places = [np.flatnonzero(test(piece)) + at for at, piece in _pieces(text)]
    return np.concatenate(places) if places else np.empty(0, np.int64)


def line_count(block: bytes) -> int:
    """Returns the number of line ends in the block."""
    return _count(np.frombuffer(block, np.uint8), _is_break)


def _without_times(kind: pa.DataType) -> pa.DataType:
    """Returns the type with every date or time type replaced by text. pyarrow.json infers these from dates in strings."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _without_times(f.type)) for f in kind])
    if pa.types.is_list(kind):
        return pa.list_(pa.field(kind.value_field.name, _without_times(kind.value_type)))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _fits(kind: pa.DataType) -> bool:
    deep, wide = depth_and_fields(kind)
    return deep <= MAX_DEPTH and wide <= MAX_FIELDS


def _inexact(column: pa.Array) -> bool:
    """Whether the column may hold a float that is a rounded integer, or that is not a JSON number (NaN, infinity)."""
    kind = column.type
    if pa.types.is_struct(kind):
        return any(_inexact(column.field(i)) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return _inexact(column.values)
    if not pa.types.is_floating(kind) or not len(column):
        return False
    biggest = pc.max(pc.abs(column), skip_nulls=True).as_py()
    return (biggest is not None and not biggest < _BIG) or pc.any(pc.is_nan(column)).as_py() is True


def _columns(lines: list[bytes], rows: list[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    """Yields the rows as record batches, each with at most MAX_COLUMNS columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MAX_COLUMNS:
        half = len(rows) // 2
        yield from _columns(lines[:half], rows[:half])
        yield from _columns(lines[half:], rows[half:])
        return
    table = _arrow(b"\n".join(lines), len(lines))
    if table is not None and table.num_rows == len(rows) and table.num_columns:
        yield _one_batch(table)
        return
    columns, fields = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        column = None if mixes_numbers(values) else _column(values)
        if column is None:
            fields.append(json_field(name))
            column = json_column(values)
        else:
            fields.append(pa.field(name, column.type))
        columns.append(column)
    yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _column(values: list[Any]) -> pa.Array | None:
    """Returns the values as one typed column. None if they have no common type."""
    block = b"\n".join(dumps({"v": v}) for v in values)
    try:
        table = _read(block, ()) if _shallow(block, len(values)) else None
        if table is None:
            return None
        text = _without_times(table.schema[0].type)
        if text != table.schema[0].type:
            table = _read(block, (pa.field("v", text),))
    except pa.ArrowException:
        return _lists_of_scalars(values)
    return table.column(0).combine_chunks() if _fits(text) and table.num_rows == len(values) else None


def _lists_of_scalars(values: list[Any]) -> pa.Array | None:
    """Returns lists of one scalar type and nulls as a column. pyarrow.json reads them incorrectly if a null comes first."""
    lists = [v for v in values if v is not None]
    if not all(type(v) is list for v in lists) or len({type(x) for v in lists for x in v} - {type(None)}) != 1:
        return None
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    item = next(type(x) for v in lists for x in v if x is not None)
    return pa.array(values, pa.list_(kinds[item])) if item in kinds else None


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def chunks(
    records: Iterable[Records], file: str, first: int, reason: Callable[[int, str], str] | None = None
) -> Iterator[SourceChunk]:
    """Yields the records as chunks. Row numbers count from `first`, and a refused record becomes a reject of `file`."""
    for r in records:
        rejects = tuple(Reject(file, first + p, reason(p, why) if reason else why) for p, why in r.refused)
        yield from bounded(r.batch, r.places + first, rejects)
