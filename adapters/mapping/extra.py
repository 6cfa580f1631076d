"""Writes columns as JSON, column by column. Values without a place in the schema become one JSON object for each row.

Values are written as follows, so that they can be read back:

==================== ===============================================================================
null                 `null`
integer, boolean     as JSON integers and booleans
float                the shortest digits that read back as the same float of the column's width;
                     `"NaN"`, `"Infinity"` and `"-Infinity"` are strings, because JSON has no such numbers
decimal              a string of its digits
text                 a string in UTF-8; only the characters that JSON requires are escaped
date, time           a string, ISO 8601; a timestamp with a zone ends in `Z` or its offset; if the year is
                     beyond 32,767 `{"$date": 2147483647, "unit": "d"}`, `{"$timestamp": …, "unit": "us"}`
duration             `{"$duration": 5, "unit": "s"}`
binary               `{"$binary": "base64"}`
interval             `{"$interval": {"months": 1, "days": 2, "nanoseconds": 3}}`
list, struct, map    array, object, object (an array of pairs if the map's keys are not strings, or a key occurs twice)
JSON text            unchanged: a column with the field metadata `{b"json": b"1"}`
integer as float     as a JSON integer: whole numbers of a column with the metadata `{b"integers": b"1"}`
==================== ===============================================================================
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.columns.arrow_values import array_of, constant, fill_nulls, numbers

TEXT = pa.large_string()
_ESCAPES = {0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
_MUST_ESCAPE = np.array([byte < 0x20 or byte in (0x22, 0x5C) for byte in range(256)])


# Texts to concatenate in every row. A part is a constant text, or a column of text.
Piece = tuple[pa.Array | str, ...]


def is_json(field: pa.Field | None) -> bool:
    """Whether the column holds JSON text."""
    return field is not None and (field.metadata or {}).get(b"json") == b"1"


def has_integers(field: pa.Field | None) -> bool:
    """Whether the whole numbers of a column of floats, or of lists of floats, are integers in the source."""
    return field is not None and (field.metadata or {}).get(b"integers") == b"1"


def extra_json(batch: pa.RecordBatch, columns: Sequence[str], rest: Mapping[str, pa.Array] | None = None) -> pa.Array:
    """Returns one JSON object for each row with these columns, in the batch's order; null if the object would have no key.

    `rest` replaces a column's values by JSON text. If this text is null, the row's object lacks the key.
    """
    rest = rest or {}
    pieces: list[Piece] = []
    seen: set[str] = set()
    for index, field in enumerate(batch.schema):
        if field.name in seen or (field.name not in columns and field.name not in rest):
            continue
        seen.add(field.name)
        key = orjson.dumps(field.name).decode() + ":"
        if field.name in rest:
            pieces.append(concat(key, rest[field.name]))
        else:
            pieces.append((key, *_parts(batch.column(index), field)))
    return json_object(pieces, batch.num_rows)


def _parts(column: pa.Array, field: pa.Field) -> Piece:
    """Returns the column's values as JSON text.

    The text of an ordinary text column is returned in parts, which saves one concatenation.
    """
    if is_text(column.type) and not is_json(field) and not column.null_count:
        return ('"', escaped(column), '"')
    return (json_text(column, field),)


def json_object(pieces: Sequence[pa.Array | Piece], rows: int) -> pa.Array:
    """Joins pieces `"key":value` to objects. A null piece is omitted, and a row without pieces is null.

    A piece may be a tuple of parts that are never null. All parts of all pieces are joined in a single concatenation.
    """
    if not pieces:
        return pa.nulls(rows, TEXT)
    parts: list[pa.Array | str] = ["{"]
    has_key: pa.Array | None = None  # mask of the rows that already have a key; unused when all rows have a key
    everywhere = False
    for piece in pieces:
        if everywhere:
            comma: pa.Array | str = ","
        elif has_key is None:
            comma = ""
        else:
            comma = pc.if_else(has_key, constant(",", TEXT), constant("", TEXT))
        if isinstance(piece, tuple):
            everywhere = True
            parts += [comma, *piece]
        elif piece.null_count:
            there = pc.is_valid(piece)
            piece = fill_nulls(concat(comma, piece), "")
            has_key = there if has_key is None else pc.or_(has_key, there)
            parts.append(piece)
        else:
            everywhere = True
            parts += [comma, piece]
    objects = concat(*parts, "}")
    return objects if everywhere else pc.if_else(has_key, objects, constant(None, TEXT))


def concat(*parts: pa.Array | str) -> pa.Array:
    """Concatenates the parts of each row; null if a part is null."""
    joined: list[pa.Array | str] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    ends = [constant(part, TEXT) if isinstance(part, str) else part for part in joined]
    return pc.binary_join_element_wise(*ends, constant("", TEXT))


def json_text(column: pa.Array, field: pa.Field | None = None) -> pa.Array:
    """Returns each value of the column as JSON text. The result has no nulls: a null becomes the text `null`."""
    if is_json(field):
        text = _embedded(column)
    elif has_integers(field):
        text = _with_integers(column, field)
    else:
        text = _writer(column.type)(column)
    return fill_nulls(text, "null")


def escaped(column: pa.Array) -> pa.Array:
    """Returns the strings with the characters escaped that JSON requires, without quotes."""
    text = column.cast(TEXT)
    for byte in _present(text):
        mark = _ESCAPES.get(byte, f"\\u{byte:04x}")
        text = pc.replace_substring(text, pattern=chr(byte), replacement=mark)
    return text


def _present(text: pa.Array) -> list[int]:
    """Returns the bytes in the text that need an escape. The backslash is first, because other escapes contain it."""
    data = text.buffers()[2]
    if data is None or not len(text):
        return []
    offsets = np.frombuffer(text.buffers()[1], np.int64)
    first, last = offsets[text.offset], offsets[text.offset + len(text)]
    values = np.frombuffer(data, np.uint8)[first:last]
    # This check and early return are several times faster than counting each byte.
    if not _MUST_ESCAPE[values].any():
        return []
    present = np.flatnonzero(np.bincount(values, minlength=256)[_MUST_ESCAPE.nonzero()])
    bytes_ = [int(b) for b in _MUST_ESCAPE.nonzero()[0][present]]
    return sorted(bytes_, key=lambda b: (b != 0x5C, b))


def _string(column: pa.Array) -> pa.Array:
    return concat('"', escaped(column), '"')


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(TEXT)


def _quoted(column: pa.Array) -> pa.Array:
    return concat('"', column.cast(TEXT), '"')


def _float(column: pa.Array) -> pa.Array:
    text = column.cast(TEXT)
    wide = column.cast(pa.float64())
    # Some values are whole numbers. Without ".0", JSON would give them back as integers.
    if pc.any(pc.equal(pc.trunc(wide), wide)).as_py():
        whole = pc.match_substring_regex(text, r"^-?[0-9]+$")
        text = pc.if_else(whole, concat(text, ".0"), text)
    if pc.any(pc.invert(pc.is_finite(column))).as_py():
        text = pc.if_else(pc.is_nan(column), '"NaN"', text)
        words = pc.if_else(pc.greater(column.cast(pa.float64()), 0), '"Infinity"', '"-Infinity"')
        text = pc.if_else(pc.is_inf(column), words.cast(TEXT), text)
    return text.cast(TEXT)


def _with_integers(column: pa.Array, field: pa.Field) -> pa.Array:
    """Returns floats, or lists of floats, as JSON text in which whole numbers are integers."""
    if not pa.types.is_floating(column.type):
        column = column.cast(pa.large_list(column.type.value_field))
        return json_lists(column, json_text(column.flatten(), field.with_type(column.type.value_type)), "[", "]")
    whole = pc.equal(pc.trunc(column), column)
    integers = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(TEXT)
    return pc.if_else(whole, integers, column.cast(TEXT))


def _date(column: pa.Array) -> pa.Array:
    unit = "d" if pa.types.is_date32(column.type) else "ms"
    return _or_number(column, column.cast(TEXT), '{"$date":', f',"unit":"{unit}"}}')


def _timestamp(column: pa.Array) -> pa.Array:
    text = column.cast(TEXT)
    text = pc.replace_substring(text, pattern=" ", replacement="T", max_replacements=1)
    return _or_number(column, text, '{"$timestamp":', f',"unit":"{column.type.unit}"}}')


def _or_number(column: pa.Array, text: pa.Array, opening: str, closing: str) -> pa.Array:
    """Returns the text in quotes. Arrow has no text for years beyond 32,767; for those the stored number is written
    instead.
    """
    quoted = concat('"', text, '"')
    beyond = pc.starts_with(text, "<")
    if not pc.any(beyond).as_py():
        return quoted
    stored = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    return pc.if_else(beyond, concat(opening, stored.cast(TEXT), closing), quoted)


def _duration(column: pa.Array) -> pa.Array:
    return concat('{"$duration":', column.cast(pa.int64()).cast(TEXT), f',"unit":"{column.type.unit}"}}')


def _binary(column: pa.Array) -> pa.Array:
    # A loop, because Arrow has no base64. Few binary columns remain when media are mapped.
    encoded = [
        None if value is None else '{"$binary":"' + base64.b64encode(value).decode() + '"}'
        for value in column.to_pylist()
    ]
    return pa.array(encoded, TEXT)


def _decoded(column: pa.Array) -> pa.Array:
    values = column.dictionary_decode()
    return _writer(values.type)(values)


def _list(column: pa.Array) -> pa.Array:
    values_type = column.type.value_type
    column = column.cast(pa.large_list(column.type.value_field))
    values = json_text(column.flatten(), pa.field("item", values_type))
    return json_lists(column, values, "[", "]")


def _map(column: pa.Array) -> pa.Array:
    kind = column.type
    column = column.cast(pa.large_list(pa.struct([kind.key_field, kind.item_field])))
    entries = column.flatten()
    keys, items = entries.field(0), json_text(entries.field(1), kind.item_field)
    if not is_text(kind.key_type):
        return json_lists(column, concat("[", json_text(keys), ",", items, "]"), "[", "]")
    objects = json_lists(column, concat(_string(keys), ":", items), "{", "}")
    repeats = _rows_that_repeat(column, keys)
    if not len(repeats):
        return objects
    pairs = json_lists(column, concat("[", _string(keys), ",", items, "]"), "[", "]")
    there = np.zeros(len(column), np.int8)
    there[repeats] = 1
    return pc.if_else(pc.equal(array_of(there), 1), pairs, objects)


def _rows_that_repeat(column: pa.Array, keys: pa.Array) -> npt.NDArray[np.int64]:
    """Returns the rows in which a key occurs twice. An object would keep only one of its values."""
    lengths = numbers(fill_nulls(pc.list_value_length(column), 0))
    codes = numbers(keys.dictionary_encode().indices).astype(np.int64)
    count = int(codes.max(initial=0)) + 1
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    each, times = np.unique(rows * count + codes, return_counts=True)
    return np.unique(each[times > 1] // count)


def json_lists(column: pa.Array, values: pa.Array, opening: str, closing: str) -> pa.Array:
    """Returns the values of each list in brackets, separated by commas; null if the list is null."""
    lengths = numbers(fill_nulls(pc.list_value_length(column), 0))
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    rows = pc.binary_join(pa.LargeListArray.from_arrays(array_of(offsets), values), constant(",", TEXT))
    texts = concat(opening, rows, closing)
    return pc.if_else(pc.is_valid(column), texts, constant(None, TEXT)) if column.null_count else texts


def _struct(column: pa.Array) -> pa.Array:
    fields = list(column.type)
    if fields:
        pieces = [
            concat(orjson.dumps(field.name).decode() + ":", json_text(child, field))
            for field, child in zip(fields, column.flatten(), strict=True)
        ]
        objects = json_object(pieces, len(column))
    else:
        objects = pa.repeat(constant("{}", TEXT), len(column))
    return pc.if_else(pc.is_valid(column), objects, constant(None, TEXT)) if column.null_count else objects


def _embedded(column: pa.Array) -> pa.Array:
    """Returns JSON text unchanged. A value that is not valid JSON becomes a JSON string."""
    text = column.cast(TEXT)
    # A loop, because one invalid value would make the whole object invalid, and only a parser can detect it.
    return pa.array([_valid(value) for value in text.to_pylist()], TEXT)


def _valid(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return orjson.dumps(value).decode()
    # The value may have line breaks between its parts (if it is indented), but never inside its strings.
    return value


def _by_row(column: pa.Array) -> pa.Array:
    """Writes the values one by one. This is slow, and only for types that Arrow cannot split into columns (unions)."""
    return pa.array([None if v is None else dumps(v) for v in column.to_pylist()], TEXT)


def values_of(column: pa.Array, field: pa.Field | None = None) -> list[Any]:
    """Returns the values as Python objects.

    If Python cannot represent one of them (such as the year 12,000), all are returned as text, as `json_text` writes
    them.
    """
    if has_integers(field):
        return [orjson.loads(text) for text in json_text(column, field).to_pylist()]
    try:
        values: list[Any] = column.to_pylist()
    except Exception:  # noqa: BLE001 - of many kinds; a value that JSON has none for either raises again
        values = [orjson.loads(text) for text in json_text(column).to_pylist()]
    return values


def dumps(value: Any) -> str:
    """Returns a Python value as JSON text, by the rules in the module's docstring."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_NON_STR_KEYS).decode()


def _default(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$binary": base64.b64encode(value).decode()}
    if isinstance(value, pa.MonthDayNano):
        return {"$interval": {"months": value.months, "days": value.days, "nanoseconds": value.nanoseconds}}
    return str(value)


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _writer(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return lambda column: json_text(column.storage)
    if is_text(kind):
        return _string
    if t.is_boolean(kind) or t.is_integer(kind) or t.is_null(kind):
        return _plain
    if t.is_floating(kind):
        return _float
    if t.is_timestamp(kind):
        return _timestamp
    if t.is_date(kind):
        return _date
    if t.is_decimal(kind) or t.is_time(kind):
        return _quoted
    if t.is_duration(kind):
        return _duration
    if t.is_dictionary(kind):
        return _decoded
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind) or t.is_binary_view(kind):
        return _binary
    if t.is_map(kind):
        return _map
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind) or t.is_list_view(kind):
        return _list
    if t.is_struct(kind):
        return _struct
    return _by_row
