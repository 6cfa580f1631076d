"""Selections: the rows of a revision that a `where` keeps. Arrow evaluates them once; the home stores the result."""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.errors import DamagedStoreError, SourceNotFoundError, UnknownFieldError
from choline_data.places.home import Home
from choline_data.process.work import allow, pause
from choline_data.store import Revision, derived
from choline_data.store import sealed as sealing
from choline_data.where.filter_work import work_of
from choline_data.where.language import parse_where
from choline_data.where.predicate import (
    And,
    Compare,
    Field,
    In,
    IsNull,
    Length,
    Like,
    Node,
    Not,
    Or,
    Predicate,
    Value,
    moment,
)

RowNumbers = npt.NDArray[np.int64]

_HEAD = b"choline_data.where.language.selection"
_ROWS_AT_ONCE = 16_384
_ROWS_SAMPLED = 256  # rows whose size is used to estimate the work
_WORK_AT_ONCE = 20e6  # units of `where_work`, about nanoseconds
_ARROW = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_PYTHON: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def selection_name(revision: str, predicate: Predicate) -> str:
    """Returns the name of the object that holds the rows of a revision that the predicate keeps."""
    return f"selections/{revision}/{hashlib.sha256(predicate.text.encode()).hexdigest()}.arrow"


def selected_rows(home: Home, revision: Revision, where: str) -> RowNumbers:
    """Returns the rows that the `where` keeps, ascending. The result is stored, and evaluated again only after its eviction."""
    predicate = parse_where(where)
    name = selection_name(revision.revision, predicate)
    if home.exists(name):
        derived.of(home).mark(home, name)
        with contextlib.suppress(SourceNotFoundError):  # the selection may have been evicted since `exists` was called
            return _read(home, name, revision, predicate)
    rows = evaluate(revision, predicate)
    content = encode_selection(name, predicate.text, rows)
    derived.kept(home, len(content), lambda: home.put(name, content))
    return rows


def encode_selection(name: str, where: str, rows: RowNumbers) -> bytes:
    """Returns the bytes of the object that holds these rows, with its seal."""

    def encode(stated: str) -> bytes:
        metadata = {_HEAD: orjson.dumps({sealing.KEY: stated, "where": where})}
        schema = pa.schema([pa.field("row", pa.int64(), nullable=False)], metadata=metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch([pa.array(rows)], schema=schema))
        return bytes(sink.getvalue())

    return sealing.sealed(name, encode)


def read_selection(home: Home, name: str, count: int) -> tuple[str, RowNumbers]:
    """Returns the `where` and the rows of a stored selection. Raises DamagedStoreError if it is damaged, or if a row
    number is `count` or more.
    """
    raw = home.read(name)
    intact = sealing.is_intact(name, raw)
    if intact is False:
        raise _damaged(name)
    try:
        table = pa.ipc.open_file(pa.py_buffer(raw)).read_all()
        table.validate(full=True)
        metadata = table.schema.metadata or {}
        if intact is None and set(metadata) != {b"where"}:
            raise _damaged(name)
        where = metadata[b"where"].decode() if intact is None else orjson.loads(metadata[_HEAD])["where"]
        rows: RowNumbers = table["row"].to_numpy()
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise _damaged(name) from error
    sound = rows.dtype == np.int64
    if sound and len(rows):
        sound = bool(rows[0] >= 0 and rows[-1] < count and np.all(rows[1:] > rows[:-1]))
    if not sound:
        raise _damaged(name)
    return where, rows


def _read(home: Home, name: str, revision: Revision, predicate: Predicate) -> RowNumbers:
    where, rows = read_selection(home, name, revision.rows)
    if where != predicate.text:
        raise _damaged(name)
    return rows


def _damaged(name: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"The selection {name} is damaged.", remedy="Run `choline-data repair`, which makes it again."
    )


def within(rows: RowNumbers, spans: Sequence[tuple[int, int]]) -> RowNumbers:
    """Returns those of the rows that are in one of the spans. Rows and spans must be in ascending order."""
    cuts = np.searchsorted(rows, np.array(spans, dtype=np.int64).reshape(-1, 2))
    return np.concatenate([rows[:0], *(rows[low:high] for low, high in cuts.tolist())])


def evaluate(revision: Revision, predicate: Predicate) -> RowNumbers:
    """Evaluates the predicate. Returns the rows that it keeps, ascending. Raises UnknownFieldError for an `extra` key
    that no row has.
    """
    columns = sorted({field.name.partition(".")[0] for field in predicate.fields})
    sought = {field.path for field in predicate.fields if field.path}
    seen: set[tuple[str, ...]] = set()
    keys: set[str] = set()
    selected = [np.empty(0, dtype=np.int64)]
    at = 0
    at_once = _rows_at_once(revision, predicate, columns)
    for start in range(0, revision.rows, at_once):
        for batch in revision.read(start, min(start + at_once, revision.rows), columns):
            pause()
            columns_read = _Batch(batch, revision.constants)
            mask = pc.fill_null(columns_read.mask(predicate.tree), False)
            selected.append(np.flatnonzero(mask.to_numpy(zero_copy_only=False)).astype(np.int64) + at)
            at += batch.num_rows
            seen |= {path for path in sought - seen if any(value is not None for value in columns_read.values(path))}
            if sought - seen and len(keys) < 1000:
                keys.update(key for row in columns_read.parsed for key in (row if isinstance(row, dict) else ()))
    for path in sorted(sought - seen):
        raise UnknownFieldError(str(Field("extra", path)), [f"extra.{key}" for key in sorted(keys)], where="where")
    return np.concatenate(selected)


def _rows_at_once(revision: Revision, predicate: Predicate, columns: Sequence[str]) -> int:
    """Returns how many rows are evaluated at a time, which is some milliseconds of work.

    Raises RequestTooLargeError if the work for all rows is too much.
    """
    sample = revision.read(0, min(_ROWS_SAMPLED, revision.rows), columns)
    rows = max(sum(batch.num_rows for batch in sample), 1)
    sizes = {name: sum(batch[name].nbytes for batch in sample) / rows for name in sample[0].schema.names if sample}
    a_row = work_of(predicate, sizes)
    allow(
        "where_work",
        a_row * revision.rows,
        f"A where over {revision.rows:,} rows takes too much work",
        "Narrow it to fewer parts, or run `choline-data stream MIX --where … -n 1` once on the server's home.",
    )
    return int(min(max(_WORK_AT_ONCE / a_row, 16), _ROWS_AT_ONCE))


class _Batch:
    """One batch of stored rows, with the columns that a predicate reads."""

    def __init__(self, batch: pa.RecordBatch, constants: Mapping[str, str]) -> None:
        self._batch = batch
        self._constants = constants
        self._parsed: list[Any] | None = None
        self._found: dict[tuple[str, ...], list[Any]] = {}

    @property
    def parsed(self) -> list[Any]:
        """The `extra` of each row as Python values. It loops over rows, because Arrow has no kernel that parses JSON."""
        if self._parsed is None:
            texts = self._batch["extra"].to_pylist() if "extra" in self._batch.schema.names else []
            self._parsed = [_json(text) for text in texts] or [None] * self._batch.num_rows
        return self._parsed

    def values(self, path: tuple[str, ...]) -> list[Any]:
        """Returns the value at this path in each row's `extra`; None if the row has no such value."""
        if path not in self._found:
            self._found[path] = [_at(row, path) for row in self.parsed]
        return self._found[path]

    def mask(self, node: Node) -> pa.Array:
        """Evaluates a node of the predicate. Returns for each row whether it is true; null if that is unknown."""
        match node:
            case And():
                return _folded(pc.and_kleene, [self.mask(term) for term in node.terms])
            case Or():
                return _folded(pc.or_kleene, [self.mask(term) for term in node.terms])
            case Not():
                return pc.invert(self.mask(node.term))
            case IsNull():
                return pc.is_null(self._field(node.field))
            case Like():
                return pc.match_like(self._texts(node.field), node.pattern)
            case In():
                terms = [self._compared(node.operand, "=", value) for value in node.values]
                return terms[0] if len(terms) == 1 else _folded(pc.or_kleene, terms)
            case Compare():
                return self._compared(node.operand, node.relation, node.value)

    def _compared(self, operand: Field | Length, relation: str, value: Value) -> pa.Array:
        if isinstance(operand, Field) and operand.path:
            holds = _PYTHON[relation]
            return pa.array(
                [holds(values, value) if _alike(values, value) else None for values in self.values(operand.path)],
                pa.bool_(),
            )
        if isinstance(operand, Length):
            return _ARROW[relation](self._length(operand.field), pa.scalar(value))
        column = self._field(operand)
        if operand.type == "time":
            return _ARROW[relation](column, pa.scalar(moment(str(value)), pa.timestamp("us", tz="UTC")))
        return _ARROW[relation](column, pa.scalar(value))

    def _texts(self, field: Field) -> pa.Array:
        if not field.path:
            return self._field(field)
        values = self.values(field.path)
        return pa.array([value if isinstance(value, str) else None for value in values], pa.large_string())

    def _length(self, field: Field) -> pa.Array:
        if field.path:
            values = self.values(field.path)
            return pa.array([len(v) if isinstance(v, str | list | dict) else None for v in values], pa.int64())
        if field.name in ("turns", "media", "label"):
            return pc.list_value_length(self._whole(field.name))
        return pc.utf8_length(self._field(field))

    def _whole(self, name: str) -> pa.Array:
        """Returns the stored column; else the revision's constant, repeated for each row; else nulls."""
        if name in self._batch.schema.names:
            return self._batch[name]
        rows = self._batch.num_rows
        if name in self._constants:
            return pa.repeat(pa.scalar(self._constants[name], pa.string()), rows)
        return pa.nulls(rows, _ABSENT.get(name, pa.string()))

    def _field(self, field: Field) -> pa.Array:
        """Returns the field as a flat column."""
        if field.path:
            return pa.array([None if value is None else True for value in self.values(field.path)], pa.bool_())
        top, _, member = field.name.partition(".")
        column = self._whole(top)
        if top == "origin":
            return pc.struct_field(column, member)
        if top in ("label", "media") and pa.types.is_list(column.type):
            if not member and top == "media":
                return column
            return _first(column, member or "name")
        return column


_ITEM = pa.struct([("name", pa.string()), ("value", pa.large_string()), ("score", pa.float64()), ("mime", pa.string())])
_ABSENT = {
    "label": pa.list_(_ITEM),
    "media": pa.list_(_ITEM),
    "turns": pa.list_(_ITEM),
    "time": pa.timestamp("us", tz="UTC"),
}


def _first(column: pa.Array, member: str) -> pa.Array:
    """Returns a member of the first item of each row's list; null if the list is empty."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    members = pc.struct_field(pc.list_flatten(column), member)
    return members.take(pa.array(starts, mask=lengths == 0))


def _folded(kernel: Callable[..., pa.Array], masks: list[pa.Array]) -> pa.Array:
    out = masks[0]
    for mask in masks[1:]:
        out = kernel(out, mask)
    return out


def _json(text: str | None) -> Any:
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _alike(found: Any, value: Value) -> bool:
    """Returns whether a JSON value and the constant have the same type: both boolean, both text, or both numbers."""
    if isinstance(found, bool) or isinstance(value, bool):
        return isinstance(found, bool) and isinstance(value, bool)
    if isinstance(value, str):
        return isinstance(found, str)
    return isinstance(found, int | float)
