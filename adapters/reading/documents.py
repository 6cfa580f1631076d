"""Reads whole JSON documents up to a size limit, and converts their records to chunks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from choline_data.adapters.base import Reject, Shard, Source, SourceChunk, SourceFile, from_row
from choline_data.adapters.reading.io import content, head
from choline_data.adapters.reading.records import checked_loads, records_of_rows
from choline_data.errors import CholineDataError, SourceDamagedError

MAX_DOCUMENT_BYTES = 512 << 20


def document(path: str, name: str, *, limit: int = MAX_DOCUMENT_BYTES) -> Any:
    """Returns the JSON value in a file, which may be compressed.

    Raises SourceTooLargeError above `limit` bytes, and SourceDamagedError if the content is not JSON.
    """
    remedy = "Split it, or export it as JSON Lines."
    data = content(path, name, limit=limit, what="a JSON document", remedy=remedy)
    try:
        return checked_loads(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise SourceDamagedError(f"{name}: {error}.", remedy="Export the file again.") from error


def document_or_none(file: SourceFile) -> Any:
    """Returns the JSON value of a file; None if it is not JSON or too large. For `detect`, which must not raise for such files."""
    try:
        return document(file.path, file.name)
    except CholineDataError:
        return None


def json_files(source: Source, hint: str) -> Iterator[tuple[SourceFile, Any]]:
    """Yields the source's JSON documents whose first bytes match `hint`, each with its value."""
    for file in source.files:
        if re.search(r"\.json(?:\.(?:gz|zst|bz2|xz))?$", file.name) is None:
            continue
        try:
            first = head(file.path).decode("utf-8", "replace")
        except CholineDataError:
            continue
        if re.search(hint, first):
            value = document_or_none(file)
            if value is not None:
                yield file, value


def one_shard_each(files: Sequence[SourceFile]) -> list[Shard]:
    """Returns a shard for each file."""
    return [Shard(f.path, f.name, size=f.size) for f in files]


def chunks_of(rows: Iterable[object], file: str, *, start: int = 0) -> Iterator[SourceChunk]:
    """Yields parsed records as chunks, from row `start` on. A record that is not an object is rejected."""

    def all_chunks() -> Iterator[SourceChunk]:
        for parsed in records_of_rows(rows):
            rejects = tuple(Reject(file, place, why) for place, why in parsed.refused)
            yield SourceChunk(parsed.batch, parsed.places, rejects)

    return from_row(start, all_chunks())
