"""What the formats of documents share: whole files that become rows, and the parts of a document that is a ZIP archive."""

from __future__ import annotations

import io as stdio
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import Shard, SourceChunk, SourceFile, from_row
from choline_data.adapters.reading import members
from choline_data.adapters.reading.rows import SourceRows
from choline_data.errors import ChoiceNeededError, DataError, one_line

MAX_DOCUMENT_BYTES = 256 << 20
MAX_PART_BYTES = 64 << 20  # limit for the decompressed size of the parts that are read from one document
Rows = Iterable[Mapping[str, Any]]


def document_chunks(
    shard: Shard,
    start: int,
    rows_of: Callable[[bytes, SourceFile], Rows],
    types: Mapping[str, pa.DataType],
    limit: int = MAX_DOCUMENT_BYTES,
) -> Iterator[SourceChunk]:
    """Yields the rows of the shard's files from row `start` on. A file that `rows_of` cannot read is one rejected row."""

    def chunks() -> Iterator[SourceChunk]:
        rows = SourceRows(shard.origin, types)
        number = 0
        for file, data in members.contents(shard.files or (SourceFile(shard.path, shard.name, shard.size),), limit):
            try:
                if data is None:
                    raise ValueError(f"above {limit:,} bytes")
                for values in rows_of(data, file):
                    size = sum(len(value) for value in values.values() if isinstance(value, str)) * 2
                    if rows.full(size):
                        yield from rows.take()
                    rows.add(number, values, size, file.name)
                    number += 1
            except (ValueError, DataError, ChoiceNeededError) as error:
                if rows.full():
                    yield from rows.take()
                rows.reject(number, one_line(f"{file.name}: {error}", 200))
                number += 1
        yield from rows.take()

    return from_row(start, chunks())


class ZippedParts:
    """The parts of a document that is a ZIP archive. All parts together may have MAX_PART_BYTES decompressed bytes."""

    def __init__(self, data: bytes) -> None:
        try:
            self._archive = zipfile.ZipFile(stdio.BytesIO(data))
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"not a ZIP archive: {error}") from error
        self._left = MAX_PART_BYTES

    def __contains__(self, name: str) -> bool:
        return name in self._archive.NameToInfo

    def part(self, name: str) -> bytes:
        """Returns a part. Raises ValueError if it is missing, damaged or too large."""
        try:
            with self._archive.open(name) as file:
                data = file.read(self._left + 1)
        except KeyError as error:
            raise ValueError(f"it lacks its part {name}") from error
        # zipfile raises RuntimeError for an encrypted member, and NotImplementedError for an unknown compression.
        except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError) as error:
            raise ValueError(f"its part {name} is damaged: {error}") from error
        if len(data) > self._left:
            raise ValueError(f"its parts are above {MAX_PART_BYTES:,} bytes")
        self._left -= len(data)
        return data
