"""Keeps the integers of JSON apart from its floats, where `pyarrow.json` makes floats of both.

If a column has integers beside floats (`1`, `2.5`), Arrow's column has floats alone (1.0, 2.5). The text of the block shows
which numbers are integers. A column whose whole numbers are all integers has the field metadata `{b"integers": b"1"}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

INTEGERS = {b"integers": b"1"}
_NUMBERS = rb"\"\s*:\s*([-\d\[][-+\d.eE,\s\[\]nul]*)"
_INTEGER = re.compile(rb"(?<![\d.eE+-])-?\d+(?![\d.eE])")


def with_integers(table: pa.Table, block: bytes) -> pa.Table | None:
    """Returns the table, with a mark at each column of floats whose whole numbers are written as integers in the block.

    None if a mark would be wrong: for a column that has both `1` and `1.0`, or such floats inside objects.
    """
    leaves = [leaf for number, field in enumerate(table.schema) for leaf in _leaves(field.name, table.column(number))]
    for name in dict.fromkeys(name for name, column in leaves if _has_whole(column)):
        same = [column for key, column in leaves if key == name]
        integers = _integers(block, name) - sum(len(c) - c.null_count for c in same if pa.types.is_integer(c.type))
        if not integers:
            continue
        at = table.schema.get_field_index(name)
        if at < 0 or not _is_numbers(table.schema.field(at).type) or integers != sum(map(_whole, same)):
            return None
        if sum(_has_whole(column) for column in same) > 1:
            return None
        table = table.set_column(at, table.schema.field(at).with_metadata(INTEGERS), table.column(at))
    return table


def _leaves(name: str, column: pa.ChunkedArray) -> Iterator[tuple[str, pa.Array]]:
    """Yields the columns of numbers inside a column, each with the key that its numbers or lists have in the text."""
    for chunk in column.chunks:
        yield from _inside(name, chunk)


def _inside(name: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if pa.types.is_struct(array.type):
        for field, child in zip(array.type, array.flatten(), strict=True):
            yield from _inside(field.name, child)
    elif pa.types.is_list(array.type):
        yield from _inside(name, array.flatten())
    elif pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
        yield name, array


def _is_numbers(kind: pa.DataType) -> bool:
    """Whether the type is that of floats, or of lists of floats."""
    while pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind))


def _has_whole(column: pa.Array) -> bool:
    return bool(pa.types.is_floating(column.type)) and _whole(column) > 0


def _whole(column: pa.Array) -> int:
    """Returns the number of floats without a fraction."""
    if not pa.types.is_floating(column.type):
        return 0
    return int(pc.sum(pc.equal(pc.trunc(column), column)).as_py() or 0)


def _integers(block: bytes, name: str) -> int:
    """Returns the number of integers that the block has under a key, alone or in lists."""
    spellings = {json.dumps(name).encode(), orjson.dumps(name)}
    key = b"|".join(re.escape(spelling[:-1]) for spelling in spellings)
    return len(_INTEGER.findall(b" ".join(re.findall(b"(?:" + key + b")" + _NUMBERS, block))))


def mixes_numbers(values: list[Any]) -> bool:
    """Whether integers and floats occur under the same key in these values, or integers that do not fit into 64 bits."""
    integers: set[tuple[str, ...]] = set()
    floats: set[tuple[str, ...]] = set()
    stack: list[tuple[tuple[str, ...], Any]] = [((), values)]
    while stack:
        path, value = stack.pop()
        if type(value) is int:
            if not -(1 << 63) <= value < 1 << 63:
                return True
            integers.add(path)
        elif type(value) is float:
            floats.add(path)
        elif type(value) is list:
            stack.extend((path, item) for item in value)
        elif type(value) is dict:
            stack.extend(((*path, key), item) for key, item in value.items())
    return not integers.isdisjoint(floats)
