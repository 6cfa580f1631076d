"""Parses FASTQ: one sequencing read for each row, with its id, description, sequence and quality string."""

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

_SEQUENCE = re.compile(r"[A-Za-z.*~-]*")
_QUALITY = re.compile(r"[!-~]*")
_TYPES = {"id": pa.string(), "description": pa.string(), "sequence": pa.large_string(), "quality": pa.large_string()}


@dataclass(frozen=True)
class Fastq:
    """Yields the sequencing reads of a file. A sequence may be wrapped over several lines. A read that the end of the
    file cuts is damage.
    """

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the reads from number `start` on."""
        return record_chunks(_records(lines_of(shard, self.encoding), shard.name), shard, start, _TYPES)


ADAPTER = Fastq


def _records(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    number = 0
    for header in lines:
        if not header.strip():
            continue
        if not header.startswith("@"):
            raise damaged(name, f"read {number} does not begin with '@'")
        sequence, again = _until_plus(lines, name, number)
        quality = ""
        while len(quality) < len(sequence):
            line = next(lines, None)
            if line is None:
                raise damaged(name, f"it ends within read {number}")
            quality += line.strip()
        number += 1
        if len(quality) > len(sequence):
            yield TextRecord(fault=f"{len(quality)} quality values for {len(sequence)} letters")
            continue
        fault = _fault(header[1:].strip(), again, sequence, quality)
        if fault:
            yield TextRecord(fault=fault)
            continue
        key, _, description = header[1:].strip().partition(" ")
        values = {"id": key, "description": description.strip(), "sequence": sequence, "quality": quality}
        yield TextRecord(values, 2 * len(sequence) + len(header))


def _fault(title: str, again: str, sequence: str, quality: str) -> str:
    """Returns what is wrong with a read, or "": the title after "+" differs, or there is a character that sequences or
    qualities cannot have.
    """
    if again and again != title and again != title.partition(" ")[0]:
        return f"its title is {title[:40]!r} at '@' and {again[:40]!r} at '+'"
    if not _SEQUENCE.fullmatch(sequence):
        return "its sequence has other characters than letters"
    return "" if _QUALITY.fullmatch(quality) else "its quality has a character outside of '!' to '~'"


def _until_plus(lines: Iterator[str], name: str, number: int) -> tuple[str, str]:
    """Returns the sequence, and the title that the line with '+' repeats, or ""."""
    parts: list[str] = []
    for line in lines:
        if line.startswith("+"):
            return "".join(parts), line[1:].strip()
        parts.append(line.strip())
    raise damaged(name, f"it ends within read {number}")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the FASTQ files."""
    return claim_all(source, Fastq(), "FASTQ reads", kind="tabular")
