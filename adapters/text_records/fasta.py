"""Reads FASTA: one sequence for each row, with its id and description."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    damaged,
    lines_of,
    record_chunks,
    shards_of,
)

_NO_LETTER = re.compile(r"[^A-Za-z*.~-]")
_TYPES = {"id": pa.string(), "description": pa.string(), "sequence": pa.large_string()}


@dataclass(frozen=True)
class Fasta:
    """Reads sequences. Lines that begin with `;` are comments. A sequence above `max_bytes` is rejected."""

    max_bytes: int = 256 << 20
    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the sequences from number `start` on."""
        return record_chunks(self._records(shard), shard, start, _TYPES)

    def _records(self, shard: Shard) -> Iterator[TextRecord]:
        header, parts, size = "", list[str](), 0
        in_sequence = False
        for line in lines_of(shard, self.encoding):
            if line.startswith(">"):
                if in_sequence:
                    yield self._record(header, parts, size)
                header, parts, size, in_sequence = line[1:], [], len(line), True
            elif line.strip() and not line.startswith(";"):
                if not in_sequence:
                    raise damaged(shard.name, "the first sequence has no line that begins with '>'")
                size += len(line)
                if size <= self.max_bytes:
                    parts.append("".join(line.split()))
        if in_sequence:
            yield self._record(header, parts, size)

    def _record(self, header: str, parts: list[str], size: int) -> TextRecord:
        if size > self.max_bytes:
            return TextRecord(
                size=0, fault=f"a sequence of {size:,} bytes; the limit (max_bytes) is {self.max_bytes:,}"
            )
        sequence = "".join(parts)
        wrong = _NO_LETTER.search(sequence)
        if wrong is not None:
            return TextRecord(fault=f"its sequence has the character {wrong[0]!r}, which no sequence has")
        name, _, description = header.strip().partition(" ")
        return TextRecord({"id": name, "description": description.strip(), "sequence": sequence}, size)


ADAPTER = Fasta


def detect(source: Source) -> list[FormatClaim]:
    """Claims the FASTA files."""
    return claim_all(source, Fasta(), "FASTA sequences", kind="tabular")
