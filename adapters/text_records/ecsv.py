"""Reads ECSV (astropy): delimited text whose header states the name and the type of each column in YAML.

An empty field is a missing value, except in a column of texts. Values of columns with a `subtype` are read as JSON. Complex numbers
are refused.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.batches import MAX_COLUMNS
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    damaged,
    lines_of,
    record_chunks,
    shards_of,
)
from choline_data.errors import SourceFormatError, one_line
from choline_data.places.yaml_safe import safe_load

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_KINDS: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "string": pa.large_string(),
    **{name: getattr(pa, name)() for name in _INTEGERS},
    **dict.fromkeys(("float16", "float32"), pa.float32()),
    **dict.fromkeys(("float64", "float128"), pa.float64()),
}
_MAX_HEADER_LINES = 20_000


@dataclass(frozen=True)
class EcsvColumn:
    """A column of the header. `type` is None for values that are read as JSON."""

    name: str
    type: pa.DataType | None


@dataclass(frozen=True)
class Ecsv:
    """Reads rows. A row with a wrong number of fields, or with a value of another type, is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from number `start` on."""
        lines = lines_of(shard, self.encoding)
        columns, delimiter, first = _header(lines, shard.name)
        names = next(csv.reader([first], delimiter=delimiter), [])
        if names != [column.name for column in columns]:
            raise damaged(shard.name, "the line of names does not agree with the columns of its header")
        types = {column.name: column.type for column in columns if column.type is not None}
        return record_chunks(_records(lines, columns, delimiter, shard.name), shard, start, types)


ADAPTER = Ecsv


def _header(lines: Iterator[str], name: str) -> tuple[list[EcsvColumn], str, str]:
    """Returns the columns, the delimiter, and the first line below the header."""
    block: list[str] = []
    first = ""
    for line in lines:
        if not line.startswith("#"):
            first = line
            break
        block.append(line[2:])
        if len(block) > _MAX_HEADER_LINES:
            raise damaged(name, f"its header has more than {_MAX_HEADER_LINES:,} lines")
    # Tags of astropy such as !astropy.units.Unit stand in `meta`, which is not read.
    text = "\n".join(block[1:])
    stated = safe_load(text.partition("\nmeta:")[0].removeprefix("---"), name)
    declared = stated.get("datatype") if isinstance(stated, dict) else None
    if not isinstance(declared, list) or not declared or len(declared) > MAX_COLUMNS:
        raise damaged(name, "its header declares no columns")
    columns = [_column(each, name) for each in declared]
    delimiter = str(stated.get("delimiter", " "))
    if delimiter not in (" ", ","):
        raise damaged(name, f"its delimiter is {delimiter[:10]!r}, not a blank or a comma")
    return columns, delimiter, first


def _column(stated: Any, where: str) -> EcsvColumn:
    if not isinstance(stated, dict) or "name" not in stated:
        raise damaged(where, "a column of its header has no name")
    kind = str(stated.get("datatype", ""))
    if "subtype" in stated:
        return EcsvColumn(str(stated["name"]), None)
    if kind not in _KINDS:
        raise SourceFormatError(
            f"{where}: the column {one_line(stated['name'], 60)} has the type {one_line(kind, 40)!r}, which has no column type.",
            remedy="Save its parts as columns of their own.",
        )
    return EcsvColumn(str(stated["name"]), _KINDS[kind])


def _records(lines: Iterator[str], columns: Sequence[EcsvColumn], delimiter: str, name: str) -> Iterator[TextRecord]:
    parse = [_parser(column.type) for column in columns]
    rows = csv.reader((f"{line}\n" for line in lines if line.strip()), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if row and not (row[0].startswith("#") and len(row) != len(columns)):
                yield _record(row, columns, parse)
    except csv.Error as error:
        raise damaged(name, f"not delimited text: {one_line(error, 80)}") from error


def _record(row: list[str], columns: Sequence[EcsvColumn], parse: Sequence[Callable[[str], Any]]) -> TextRecord:
    if len(row) != len(columns):
        return TextRecord(fault=f"{len(row)} fields, not {len(columns)}")
    try:
        values = {c.name: read(cell) for c, read, cell in zip(columns, parse, row, strict=True)}
        for column in columns:
            if column.type is not None and pa.types.is_integer(column.type):
                pa.scalar(values[column.name], column.type)
    except (ValueError, RecursionError, pa.ArrowInvalid, OverflowError):
        return TextRecord(fault="a value that is not of the type of its column")
    return TextRecord(values, 2 * sum(map(len, row)) + 8 * len(row))


def _parser(kind: pa.DataType | None) -> Callable[[str], Any]:
    if kind is None:
        return lambda cell: json.loads(cell) if cell else None
    if pa.types.is_boolean(kind):
        return _boolean
    if pa.types.is_integer(kind):
        return lambda cell: int(cell) if cell else None
    return (lambda cell: float(cell) if cell else None) if pa.types.is_floating(kind) else str


def _boolean(cell: str) -> bool | None:
    if cell in ("True", "False", ""):
        return cell == "True" if cell else None
    raise ValueError(cell)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the ECSV files."""
    return claim_all(source, Ecsv(), "the header is that of ECSV", kind="tabular")
