"""Reads lines whose fields are separated by several characters, such as `::`, `|||` or ` +++$+++ `: one line for each
row.

Quotes have no meaning. A first line of names above numbers is the header; without one, the columns are `column_0`,
`column_1` … A column becomes numeric if all of its values are numbers; "007" is a text. A line with another number of
fields is rejected.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import for_a_look
from choline_data.adapters.reading.names import is_about
from choline_data.adapters.text_records.line_records import TextRecord, lines_of, record_chunks, shards_of
from choline_data.errors import SourceFormatError

SEPARATORS = ("+++$+++", "::", "|||", "|~|", "<sep>", "###", "@@@", "~~~")
_SHARE = 0.9
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
_FLOAT = re.compile(r"-?(0|[1-9]\d{0,14})\.\d{1,15}")
_KINDS = {"integer": pa.int64(), "float": pa.float64(), "text": pa.large_string(), "": pa.large_string()}
_OF = {"integer": int, "float": float}


@dataclass(frozen=True)
class WordedFields:
    """Reads lines of fields. `separator` overrides the detected one."""

    separator: str = ""
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the lines from number `start` on. Reads the file twice, first for the types of its columns."""
        separator = self.separator or separator_of(for_a_look(io.head(shard.path), shard.name))
        if not separator:
            raise SourceFormatError(
                f"{shard.name}: no separator divides most of its lines into the same number of fields.",
                remedy="`--as text` takes it as plain text.",
            )
        rows = partial(_rows, shard, self.encoding, separator)
        width = Counter(len(row) for row in rows()).most_common(1)
        if not width:
            return iter(())
        columns = _Columns(width[0][0])
        for row in rows():
            columns.see(row)
        return record_chunks(columns.records(rows()), shard, start, columns.types())


ADAPTER = WordedFields


def _rows(shard: Shard, encoding: str, separator: str) -> Iterator[list[str]]:
    for line in lines_of(shard, encoding):
        if line:
            yield _fields(line, separator)


def _fields(line: str, separator: str) -> list[str]:
    """Returns the fields of a line. If the separator has blanks, one blank on each side of it does not belong to a
    field.
    """
    bare = separator.strip()
    cells = line.split(bare) if bare else [line]
    if bare == separator:
        return cells
    last = len(cells) - 1
    return [
        (cell.removeprefix(" ") if at else cell).removesuffix(" " if at < last else "") for at, cell in enumerate(cells)
    ]


class _Columns:
    """Collects the kinds of a file's columns (number or text) while its lines are read."""

    def __init__(self, width: int) -> None:
        self._kinds = [""] * width
        self._first: list[str] | None = None

    def see(self, row: list[str]) -> None:
        """Updates the kinds with the next line. The first line may be the header, so its kinds are kept separately."""
        if len(row) != len(self._kinds):
            return
        if self._first is None:
            self._first = row
            return
        self._kinds = [_joined(kind, cell) for kind, cell in zip(self._kinds, row, strict=True)]

    def _has_header(self) -> bool:
        first = self._first or []
        over_numbers = any(k in _OF and c and _kind(c) not in _OF for k, c in zip(self._kinds, first, strict=True))
        return over_numbers and len(set(first)) == len(first) and all(c and _kind(c) == "text" for c in first)

    def _names(self) -> list[str]:
        if self._has_header() and self._first:
            return [name.strip() for name in self._first]
        return [f"column_{at}" for at in range(len(self._kinds))]

    def _all_kinds(self) -> list[str]:
        if self._has_header() or self._first is None:
            return self._kinds
        return [_joined(kind, cell) for kind, cell in zip(self._kinds, self._first, strict=True)]

    def types(self) -> dict[str, pa.DataType]:
        """Returns the types of the columns by name."""
        return {name: _KINDS[kind] for name, kind in zip(self._names(), self._all_kinds(), strict=True)}

    def records(self, rows: Iterator[list[str]]) -> Iterator[TextRecord]:
        """Yields the lines below the header as records."""
        kinds, names, width = self._all_kinds(), self._names(), len(self._kinds)
        at_header = self._has_header()
        for row in rows:
            if len(row) != width:
                yield TextRecord(fault=f"{len(row)} fields, not {width}")
                continue
            if at_header:
                at_header = False
                continue
            values = {n: _value(kind, cell) for n, kind, cell in zip(names, kinds, row, strict=True)}
            yield TextRecord(values, 2 * sum(map(len, row)) + 8 * width)


def _kind(cell: str) -> str:
    return "integer" if _INTEGER.fullmatch(cell) else "float" if _FLOAT.fullmatch(cell) else "text"


def _joined(kind: str, cell: str) -> str:
    """Returns the kind (number or text) of a column after one more value, `cell`. `kind` is the kind so far. An empty
    value has no kind.
    """
    if not cell or kind == "text":
        return kind
    own = _kind(cell)
    if kind in ("", own):
        return own
    return "float" if {kind, own} == {"integer", "float"} else "text"


def _value(kind: str, cell: str) -> str | int | float | None:
    if not cell:
        return None
    return _OF[kind](cell) if kind in _OF else cell


def separator_of(text: str) -> str:
    """Returns the separator, with its blanks, that divides most lines into the same number of fields; "" if there is
    none.
    """
    lines = [line for line in text[: text.rfind("\n") + 1 or len(text)].split("\n") if line.strip()][:400]
    for separator in SEPARATORS:
        counts = Counter(line.count(separator) for line in lines)
        count, times = counts.most_common(1)[0] if counts else (0, 0)
        if not count or times < _SHARE * len(lines):
            continue
        blanks = sum(line.count(f" {separator} ") + line.endswith(f" {separator}") for line in lines)
        return f" {separator} " if blanks >= _SHARE * sum(line.count(separator) for line in lines) else separator
    return ""


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files whose lines have the same number of fields."""
    files = tuple(
        f
        for f in source.files
        if not (is_about(f.name) and source.folder) and separator_of(for_a_look(io.head(f.path), f.name))
    )
    return [FormatClaim(WordedFields(), files, 0.9, "fields parted by a word")] if files else []
