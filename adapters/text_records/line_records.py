"""What formats of text records share: the lines of a file, and chunks of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import (
    MAX_ROW_BYTES,
    Adapter,
    FormatClaim,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    from_row,
)
from choline_data.adapters.reading import io, records
from choline_data.adapters.reading.names import in_order, is_about
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.reading.text_files import encoding_of, texts
from choline_data.errors import SourceDamagedError, SourceTooLargeError


@dataclass(frozen=True)
class TextRecord:
    """A record of a text: its values, and its size in bytes. A record with a `fault` is rejected for this reason."""

    values: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    fault: str = ""


@dataclass(frozen=True)
class LineRecords:
    """Base class of adapters whose records are lines of a text: one shard for each file. A subclass defines `records`.

    `types` are the types of the columns that are known before reading.
    """

    encoding: str = ""
    types: ClassVar[Mapping[str, pa.DataType]] = {}

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the records from number `start` on."""
        return record_chunks(self.records(lines_of(shard, self.encoding), shard), shard, start, self.types)

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the records of a file. `lines` are its lines."""
        raise NotImplementedError


def lines_of(shard: Shard, encoding: str = "", *, limit: int = MAX_ROW_BYTES) -> Iterator[str]:
    """Yields the lines of a file in any encoding. LF and CR LF end a line, which is yielded without them.

    `encoding` is the adapter's option. Raises ChoiceNeededError if the encoding is not clear.
    """
    codec = shard.encoding or encoding_of(shard.path, shard.name, encoding)
    rest = ""
    for text in texts(io.pieces(shard.path, shard.name), shard.name, codec):
        *lines, rest = (rest + text).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
        if len(rest) > limit:
            raise SourceTooLargeError(
                f"{shard.name}: a line is above {limit:,} characters.", remedy="Is it a file of lines?"
            )
    if rest:
        yield rest.removesuffix("\r")


def paragraphs(lines: Iterable[str], name: str, *, limit: int = MAX_ROW_BYTES) -> Iterator[list[str]]:
    """Yields the groups of lines that blank lines separate. Raises SourceTooLargeError for a group above `limit`
    characters.
    """
    block: list[str] = []
    size = 0
    for line in lines:
        if not line.strip():
            if block:
                yield block
            block, size = [], 0
            continue
        block.append(line)
        size += len(line)
        if size > limit:
            raise SourceTooLargeError(
                f"{name}: a record is above {limit:,} characters.", remedy="Is a blank line missing?"
            )
    if block:
        yield block


def record_chunks(
    found: Iterable[TextRecord], shard: Shard, start: int = 0, types: Mapping[str, pa.DataType] | None = None
) -> Iterator[SourceChunk]:
    """Yields the records from number `start` on, in chunks. If the records end in an error, yields the complete ones first."""
    rows = SourceRows(shard.origin, types)
    try:
        for number, record in enumerate(found):
            if number < start:
                continue
            if rows.full(record.size):
                yield from rows.take()
            if record.fault:
                rows.reject(number, record.fault)
            else:
                rows.add(number, record.values, record.size)
    except (SourceDamagedError, SourceTooLargeError):
        yield from rows.take()
        raise
    yield from rows.take()


def rows_in_chunks(rows: Iterable[object], shard: Shard, start: int = 0) -> Iterator[SourceChunk]:
    """Yields parsed rows (mappings of names to values) from row `start` on, in bounded chunks with a column for each name."""
    return from_row(start, records.chunks(records.records_of_rows(rows), shard.origin, 0))


def shards_of(files: Sequence[SourceFile]) -> list[Shard]:
    """Returns a shard for each file, in order of name."""
    return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]


def claim_all(source: Source, adapter: Adapter, evidence: str, kind: str = "") -> list[FormatClaim]:
    """Returns a claim on all files of the source that hold data.

    The registry offers a format only the files that the table gives it.
    """
    files = tuple(f for f in source.files if not is_about(f.name) or not source.folder)
    return [FormatClaim(adapter, files, 0.95, evidence, kind=kind)] if files else []


def damaged(name: str, what: str) -> SourceDamagedError:
    """Returns the error for a file that ends or breaks off within a record."""
    return SourceDamagedError(f"{name}: {what}.", remedy="Fetch the file again.")
