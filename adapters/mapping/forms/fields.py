"""The input and output of a form: the columns of its roles as text, values or labels, and the columns that it fills."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.mapping.extra import TEXT, concat, is_json, is_text, json_text, values_of
from choline_data.columns.arrow_values import array_of, byte_lengths, constant, fill_nulls, numbers
from choline_data.errors import MissingFieldError
from choline_data.schema import LABEL, TURN


@dataclass
class Made:
    """The output of a form for a chunk.

    `columns` are schema columns with one value for each row. `extra` omits the source columns that the mapping uses. It has a
    source column only if `kept` names the column, or if `rest` has the remaining part of the column as JSON text. `bad` holds
    (mask of rejected rows, reason) pairs.
    """

    columns: dict[str, pa.Array] = field(default_factory=dict)
    rest: dict[str, pa.Array] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    bad: list[tuple[pa.Array, str]] = field(default_factory=list)

    def reject(self, mask: pa.Array, reason: str) -> None:
        """Marks the rows of the mask as rejected, with this reason."""
        self.bad.append((mask.cast(pa.bool_()), reason))


class Fields:
    """The columns of a mapping's roles in one batch."""

    def __init__(self, fields: Sequence[tuple[str, str]], batch: pa.RecordBatch, where: str) -> None:
        self._fields = tuple(fields)
        self.batch = batch
        self._where = where
        self.made = Made()
        self.rows = batch.num_rows

    def names(self, role: str) -> list[str]:
        """Returns the source columns of a role, in the mapping's order."""
        return [column for r, column in self._fields if r == role]

    def has(self, role: str) -> bool:
        """Whether the mapping names a column for this role."""
        return any(r == role for r, _ in self._fields)

    def column(self, name: str) -> tuple[pa.Array, pa.Field]:
        """Returns a source column by its name, or a field of a struct by its dotted path.

        Raises MissingFieldError if there is none.
        """
        index = self.batch.schema.get_field_index(name)
        if index >= 0:
            return self.batch.column(index), self.batch.schema.field(index)
        top, _, path = name.partition(".")
        index = self.batch.schema.get_field_index(top)
        if index < 0:
            raise MissingFieldError(name, self._where, self.batch.schema.names)
        # The whole column stays in `extra`, because its other fields are stored nowhere else.
        self.made.kept.add(top)
        column, kind = self.batch.column(index), self.batch.schema.field(index)
        if not path:
            return column, kind
        return _inner(column, kind, path.split(".")) or self._missing(name)

    def _missing(self, name: str) -> Any:
        raise MissingFieldError(name, self._where, self.batch.schema.names)

    def text(self, name: str) -> pa.Array:
        """Returns a column as text. If it is not text, `extra` keeps the column.

        Lists of texts are joined by line breaks, bytes are decoded as UTF-8, and other values are written as in JSON.
        """
        column, kind = self.column(name)
        if is_json(kind):
            return self._json_as_text(name, column)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if is_text(column.type):
            return column.cast(TEXT)
        if pa.types.is_null(column.type):
            return pa.nulls(len(column), TEXT)
        self.made.kept.add(name)
        if _is_list(column.type) and is_text(column.type.value_type):
            return pc.binary_join(_filled(column), constant("\n", TEXT))
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            return _utf8(column)
        text = json_text(column, kind)
        if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type) or pa.types.is_decimal(column.type):
            text = pc.replace_substring(text, pattern='"', replacement="")
        return pc.if_else(pc.is_valid(column), text, constant(None, TEXT))

    def _json_as_text(self, name: str, column: pa.Array) -> pa.Array:
        self.made.kept.add(name)
        return pa.array([_as_text(v) for v in parsed(column)], TEXT)

    def values(self, name: str) -> list[Any]:
        """Returns a column as Python values; JSON text is parsed. For forms that must read each row."""
        column, kind = self.column(name)
        return parsed(column) if is_json(kind) else values_of(column, kind)

    def joined(self, role: str, separator: str) -> pa.Array:
        """Returns the role's columns as one text for each row.

        Several columns are joined by `separator` without the empty ones, and `extra` keeps them.
        """
        names = self.names(role)
        if not names:
            raise MissingFieldError(role, "The mapping", sorted({r for r, _ in self._fields}))
        texts = [self.text(name) for name in names]
        if len(texts) == 1:
            return texts[0]
        self.made.kept.update(names)
        joined = texts[0]
        for text in texts[1:]:
            both = concat(joined, separator, text)
            lacking = pc.fill_null(pc.equal(pc.binary_length(text), 0), True)
            empty = pc.fill_null(pc.equal(pc.binary_length(joined), 0), True)
            joined = pc.if_else(lacking, joined, pc.if_else(empty, text, both))
        return joined

    def require(self, text: pa.Array, what: str, *, not_empty: bool = False) -> pa.Array:
        """Returns `text`, and rejects its null rows.

        With `not_empty`, also rejects empty rows. `what` is the name of the text in the reason.
        """
        if text.null_count:
            self.made.reject(pc.is_null(text), f"{what} is null")
        if not_empty:
            empty = pc.fill_null(pc.equal(pc.binary_length(text), 0), False)
            self.made.reject(empty, f"{what} is empty")
        return text


def parsed(column: pa.Array) -> list[Any]:
    """Parses JSON text to Python values. Text that is not JSON stays text."""
    out = []
    for value in column.to_pylist():
        if isinstance(value, str):
            with contextlib.suppress(orjson.JSONDecodeError):
                value = orjson.loads(value)
        out.append(value)
    return out


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    return orjson.dumps(value).decode()


def _inner(column: pa.Array, kind: pa.Field, path: list[str]) -> tuple[pa.Array, pa.Field] | None:
    if is_json(kind):
        values: list[Any] = parsed(column)
        for key in path:
            values = [v.get(key) if isinstance(v, dict) else None for v in values]
        texts = [None if v is None else orjson.dumps(v).decode() for v in values]
        return pa.array(texts, TEXT), pa.field(path[-1], TEXT, metadata={b"json": b"1"})
    for key in path:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(key) < 0:
            return None
        kind = column.type.field(column.type.get_field_index(key))
        column = column.flatten()[column.type.get_field_index(key)]
    return column, kind


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind))


def _filled(column: pa.Array) -> pa.Array:
    """Returns the column as list<large_string>, with empty strings for null ones."""
    column = column.cast(pa.large_list(TEXT))
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(numbers(fill_nulls(pc.list_value_length(column), 0)), out=offsets[1:])
    mask = pc.is_null(column) if column.null_count else None
    return pa.LargeListArray.from_arrays(array_of(offsets), fill_nulls(column.flatten(), ""), mask=mask)


def _utf8(column: pa.Array) -> pa.Array:
    """Decodes bytes to text; null for values that are not UTF-8. Falls back to a loop, because Arrow fails on the first
    bad row.
    """
    try:
        return column.cast(TEXT)
    except pa.ArrowInvalid:
        return pa.array([_decoded(v) for v in column.to_pylist()], TEXT)


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def turns_of(parts: Sequence[tuple[str, pa.Array, bool]]) -> pa.Array:
    """Builds turns from columns, in the order of the conversation.

    A part is (role, content, optional). The turn of an optional part is omitted if its content is null or empty.
    """
    rows = len(parts[0][1])
    there = np.ones((rows, len(parts)), bool)
    for i, (_, content, optional) in enumerate(parts):
        if optional:
            there[:, i] = byte_lengths(content) > 0
    which = np.arange(len(parts))[None, :] * rows + np.arange(rows)[:, None]
    take = array_of(which[there])
    contents = pa.concat_arrays([content for _, content, _ in parts]).take(take)
    part = np.broadcast_to(np.arange(len(parts), dtype=np.int32), there.shape)[there]
    roles = pa.array([role for role, _, _ in parts], pa.string()).take(array_of(part))
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(there.sum(1), out=offsets[1:])
    turns = pa.StructArray.from_arrays([roles, contents], fields=list(TURN))
    return pa.ListArray.from_arrays(array_of(offsets), turns, type=pa.list_(TURN))


def class_names(batch: pa.RecordBatch, column: str) -> list[str] | None:
    """Returns the class names of an integer label, if the schema has them (as the hub's ClassLabel does); else None."""
    index = batch.schema.get_field_index(column)
    if index < 0:
        return None
    stated = (batch.schema.field(index).metadata or {}).get(b"names")
    try:
        if stated:
            names = orjson.loads(stated)
        else:
            about = orjson.loads((batch.schema.metadata or {}).get(b"huggingface", b"{}"))
            feature = about["info"]["features"][column]
            names = feature.get("names") or feature.get("feature", {}).get("names")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return [str(n) for n in names] if isinstance(names, list) and names else None


def labels_of(fields: Fields, batch: pa.RecordBatch) -> pa.Array:
    """Returns the label columns as labels. `name` is the class name if it is known, else the value; `value` is the source's value.

    With several columns (ratings), `name` is the column's name. `score` is the value if it is a float, or if it is an integer
    and there are several columns.
    """
    names = fields.names("label")
    several = len(names) > 1
    labels = [_one_label(fields, batch, name, several) for name in names]
    if not several:
        return labels[0]
    rows = fields.rows
    there = np.stack([numbers(pc.is_valid(m.flatten().field("value"))) for m in labels], axis=1)
    which = (np.arange(len(labels))[None, :] * rows + np.arange(rows)[:, None])[there]
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(there.sum(1), out=offsets[1:])
    values = pa.concat_arrays([m.flatten() for m in labels]).take(array_of(which))
    return pa.ListArray.from_arrays(array_of(offsets), values, type=pa.list_(LABEL))


def _one_label(fields: Fields, batch: pa.RecordBatch, name: str, several: bool) -> pa.Array:
    column, kind = fields.column(name)
    classes = class_names(batch, name)
    if _is_list(column.type) and not is_json(kind):
        lists = column.cast(pa.large_list(column.type.value_field))
        values = lists.flatten()
        if pa.types.is_nested(values.type):
            fields.made.kept.add(name)
        text = Fields([], _alone(values, kind), "").text("v")
        offsets = np.zeros(len(lists) + 1, np.int32)
        np.cumsum(numbers(fill_nulls(pc.list_value_length(lists), 0)), out=offsets[1:])
        mask = pc.is_null(lists) if lists.null_count else None
        if _are_labels(values.type):  # labels in the form of our own schema, as an export has them
            fields.made.kept.discard(name)
            return pa.ListArray.from_arrays(array_of(offsets), values.cast(LABEL), type=pa.list_(LABEL), mask=mask)
        return pa.ListArray.from_arrays(
            array_of(offsets), _labels(values, text, classes, ""), type=pa.list_(LABEL), mask=mask
        )
    text = fields.text(name)
    if not pa.types.is_nested(column.type) and not is_json(kind) and not pa.types.is_temporal(column.type):
        fields.made.kept.discard(name)  # the text holds the value exactly
    offsets = array_of(np.arange(len(text) + 1, dtype=np.int32))
    mask = pc.is_null(text) if text.null_count and not several else None
    return pa.ListArray.from_arrays(
        offsets, _labels(column, text, classes, name if several else ""), type=pa.list_(LABEL), mask=mask
    )


def _are_labels(kind: pa.DataType) -> bool:
    """Returns whether values of this type are labels in the form of the schema: exactly a name, a value and a score."""
    if not pa.types.is_struct(kind) or {field.name for field in kind} != {field.name for field in LABEL}:
        return False
    texts = all(is_text(kind.field(part).type) or pa.types.is_null(kind.field(part).type) for part in ("name", "value"))
    score = kind.field("score").type
    return texts and (pa.types.is_floating(score) or pa.types.is_null(score))


def _alone(values: pa.Array, kind: pa.Field) -> pa.RecordBatch:
    """Returns the values of a list column as a column `v`."""
    return pa.RecordBatch.from_arrays([values], schema=pa.schema([pa.field("v", values.type, metadata=kind.metadata)]))


def _labels(values: pa.Array, text: pa.Array, classes: list[str] | None, name: str) -> pa.Array:
    numeric = pa.types.is_floating(values.type) or (bool(name) and pa.types.is_integer(values.type))
    scores = values.cast(pa.float64()) if numeric else pa.nulls(len(text), pa.float64())
    if name:
        called = pa.repeat(constant(name, pa.string()), len(text))
    elif classes and pa.types.is_integer(values.type):
        known = pa.array(classes, pa.string())
        inside = pc.and_(pc.greater_equal(values, 0), pc.less(values, len(classes)))
        index = pc.if_else(inside, values, constant(None, values.type)).cast(pa.int64())
        called = pc.coalesce(known.take(index), text.cast(pa.string()))
    else:
        called = text.cast(pa.string())
    return pa.StructArray.from_arrays([called, text, scores], fields=list(LABEL))
