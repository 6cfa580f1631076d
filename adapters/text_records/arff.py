"""Reads ARFF (Weka): one instance for each row, with the columns that the header declares. Sparse instances are filled up.

NUMERIC and REAL columns are floats, INTEGER columns integers; nominal, STRING and DATE columns stay text. `?` is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
from choline_data.errors import SourceFormatError, SourceTooLargeError, one_line

_TYPES = {"numeric": pa.float64(), "real": pa.float64(), "integer": pa.int64()}
_ATTRIBUTE = re.compile(
    r"""@attribute\s+('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s{]+)\s*(\{.*\}|\S.*)$""", re.IGNORECASE
)
_CELL = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*))\s*(,|$)""")
_SPARSE = re.compile(r"""\s*(\d+)\s+(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*))\s*(,|$)""")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Attribute:
    """A column of the header. `first` is the first nominal value, which a sparse instance leaves out."""

    name: str
    type: pa.DataType
    first: str = ""


@dataclass(frozen=True)
class Arff:
    """Reads instances. An instance with a wrong number or type of values is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the instances from number `start` on."""
        lines = enumerate(lines_of(shard, self.encoding), 1)
        columns = _header(lines, shard.name)
        return record_chunks(_records(lines, columns), shard, start, {c.name: c.type for c in columns})


ADAPTER = Arff


def _header(lines: Iterator[tuple[int, str]], name: str) -> list[Attribute]:
    columns: list[Attribute] = []
    for number, line in lines:
        text = line.strip()
        word = text[:10].lower()
        if word.startswith("@data"):
            if not columns:
                raise damaged(name, "its header declares no attribute")
            return columns
        if word.startswith("@attribute"):
            columns.append(_attribute(text, f"{name}: line {number}"))
        if len(columns) > MAX_COLUMNS:
            raise SourceTooLargeError(f"{name}: above {MAX_COLUMNS:,} attributes.", remedy="Split the columns.")
    raise damaged(name, "it ends before @data")


def _attribute(text: str, where: str) -> Attribute:
    match = _ATTRIBUTE.match(text)
    if match is None:
        raise SourceFormatError(f"{where}: not an ARFF attribute: {one_line(text, 80)}.", remedy="Correct the header.")
    name = _unquoted(match[1])
    kind = match[2].split()[0].lower()
    if kind == "relational":
        raise SourceFormatError(
            f"{where}: {name!r} is a relational attribute, which is not supported.", remedy="Convert it with Weka."
        )
    if not match[2].startswith("{"):
        return Attribute(name, _TYPES.get(kind, pa.string()))
    first = _CELL.match(match[2][1:].rstrip().removesuffix("}"))
    return Attribute(name, pa.string(), _value(first[1], first[2], first[3]) or "" if first else "")


def _records(lines: Iterator[tuple[int, str]], columns: Sequence[Attribute]) -> Iterator[TextRecord]:
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        try:
            cells = _sparse_cells(text, columns) if text.startswith("{") else _cells(text)
            if len(cells) != len(columns):
                raise ValueError(f"{len(cells)} values for {len(columns)} attributes")
            values = {c.name: _typed(cell, c) for c, cell in zip(columns, cells, strict=True)}
        except ValueError as error:
            yield TextRecord(fault=f"line {number}: {one_line(error, 160)}")
            continue
        yield TextRecord(values, len(line) * 2)


def _cells(text: str) -> list[str | None]:
    """Returns the values of a dense instance. None stands for a missing value."""
    if "'" not in text and '"' not in text:
        return [None if cell.strip() == "?" else cell.strip() for cell in text.split(",")]
    cells: list[str | None] = []
    at = 0
    while True:
        match = _CELL.match(text, at)
        if match is None:
            raise ValueError(f"a quote is opened and not closed: {one_line(text[at:], 40)}")
        cells.append(_value(match[1], match[2], match[3]))
        at = match.end()
        if not match[4]:
            return cells


def _sparse_cells(text: str, columns: Sequence[Attribute]) -> list[str | None]:
    """Returns the values of a sparse instance: `{index value, …}`. A value that is left out is 0, or the first nominal value."""
    cells: list[str | None] = [c.first if c.type == pa.string() else "0" for c in columns]
    inside, at = text.removeprefix("{").removesuffix("}"), 0
    while inside.strip() and at < len(inside):
        match = _SPARSE.match(inside, at)
        if match is None or int(match[1]) >= len(cells):
            raise ValueError(f"not a sparse value: {one_line(inside[at:], 40)}")
        cells[int(match[1])] = _value(match[2], match[3], match[4])
        at = match.end()
    return cells


def _value(single: str | None, double: str | None, bare: str | None) -> str | None:
    quoted = single if single is not None else double
    if quoted is not None:
        return _unescaped(quoted)
    bare = (bare or "").strip()
    return None if bare == "?" else bare


def _unquoted(text: str) -> str:
    return _unescaped(text[1:-1]) if text[:1] in "'\"" and len(text) > 1 else text


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text) if "\\" in text else text


def _typed(cell: str | None, column: Attribute) -> Any:
    if cell is None or column.type == pa.string():
        return cell
    return int(cell) if column.type == pa.int64() else float(cell)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the ARFF files."""
    return claim_all(source, Arff(), "ARFF instances", kind="tabular")
