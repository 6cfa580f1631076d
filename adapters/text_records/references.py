"""Reads RIS: one reference for each row, with a column for each tag. A tag that a reference repeats is a list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, lines_of, record_chunks, shards_of
from choline_data.errors import SourceTooLargeError

_TAG = re.compile(r"([A-Z][A-Z0-9])  - ?(.*)$")
_LISTS = frozenset({"AU", "A1", "A2", "A3", "A4", "KW", "UR", "ED"})


@dataclass(frozen=True)
class Ris:
    """Reads references. Authors and keywords are always lists. A reference without its end is rejected."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the references from number `start` on."""
        return record_chunks(_references(lines_of(shard, self.encoding), shard.name), shard, start)


ADAPTER = Ris


def _references(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    tags: dict[str, list[str]] = {}
    last, size = "", 0
    for number, line in enumerate(lines, 1):
        size += len(line)
        if size > MAX_ROW_BYTES:
            raise SourceTooLargeError(
                f"{name}: a reference is above {MAX_ROW_BYTES:,} characters.", remedy="Split the file."
            )
        match = _TAG.match(line.lstrip("\ufeff"))
        if match is None:
            if line.strip() and last:  # a long value continues on this line
                tags[last][-1] = f"{tags[last][-1]} {line.strip()}"
            continue
        if match[1] == "TY" and tags:
            yield TextRecord(fault=f"line {number}: a reference begins before the one above it ends (ER)")
            tags = {}
        if match[1] == "ER":
            yield TextRecord({tag: _value(tag, values) for tag, values in tags.items()}, size * 2)
            tags, last, size = {}, "", 0
            continue
        last = match[1]
        tags.setdefault(last, []).append(match[2].strip())
    if tags:
        yield TextRecord(fault="the last reference is truncated: it has no end (ER)")


def _value(tag: str, values: list[str]) -> str | list[str]:
    return values if tag in _LISTS or len(values) > 1 else values[0]


def detect(source: Source) -> list[FormatClaim]:
    """Claims the RIS files."""
    return claim_all(source, Ris(), "RIS references", kind="tabular")
