"""Reads alignments (Stockholm and Clustal): one aligned sequence for each row, with its name and the number of its alignment.

The gaps stay in the sequence. Stockholm also gives the `family` and its accession (`#=GF ID`, `#=GF AC`), and the annotations
of each sequence (`#=GS` and `#=GR`) by their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, damaged
from choline_data.errors import SourceTooLargeError

MAX_ALIGNMENT_BYTES = 512 << 20
_CLUSTAL = re.compile(r"(\S+)\s+([A-Za-z.*~?-]+)(?:\s+\d+)?\s*$")
_CONSERVED = re.compile(r"[\s*:.]+")


@dataclass
class _Alignment:
    """The sequences of an alignment by name, the annotations of each, and those of the whole."""

    sequences: dict[str, list[str]] = field(default_factory=dict)
    annotations: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    by_letter: set[tuple[str, str]] = field(default_factory=set)  # annotations with a sign for each letter
    family: dict[str, str] = field(default_factory=dict)
    size: int = 0

    def grow(self, line: str, name: str) -> None:
        """Counts a line. Raises SourceTooLargeError if the alignment is too large for memory."""
        self.size += len(line)
        if self.size > MAX_ALIGNMENT_BYTES:
            raise SourceTooLargeError(
                f"{name}: an alignment is above {MAX_ALIGNMENT_BYTES:,} characters.", remedy="Split the file."
            )


@dataclass(frozen=True)
class Alignments(LineRecords):
    """Reads aligned sequences. An alignment whose sequences differ in length is damage."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "name": pa.string(),
        "sequence": pa.large_string(),
        "alignment": pa.int64(),
        "family": pa.string(),
        "accession": pa.string(),
        "annotations": pa.map_(pa.string(), pa.string()),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the sequences of all alignments of a file."""
        first = next((line for line in lines if line.strip()), "")
        blocks = _stockholm(lines, shard.name) if first.startswith("# STOCKHOLM") else _clustal(lines, shard.name)
        for number, alignment in enumerate(blocks):
            yield from _rows(alignment, number, shard.name)


ADAPTER = Alignments


def _rows(alignment: _Alignment, number: int, name: str) -> Iterator[TextRecord]:
    sequences = {key: "".join(parts) for key, parts in alignment.sequences.items()}
    if len({len(sequence) for sequence in sequences.values()}) > 1:
        raise damaged(name, f"the sequences of alignment {number} have different lengths")
    for key, feature in alignment.by_letter:
        if sum(map(len, alignment.annotations[key][feature])) != len(sequences.get(key, "")):
            raise damaged(name, f"the annotation {feature[:20]!r} of {key[:60]!r} is not as long as the sequence")
    for key, sequence in sequences.items():
        notes = [(feature, "".join(parts)) for feature, parts in alignment.annotations.get(key, {}).items()]
        values = {
            "name": key,
            "sequence": sequence,
            "alignment": number,
            "family": alignment.family.get("ID"),
            "accession": alignment.family.get("AC"),
            "annotations": notes,
        }
        yield TextRecord(values, len(sequence) * (1 + len(notes)))


def _stockholm(lines: Iterator[str], name: str) -> Iterator[_Alignment]:
    alignment = _Alignment()
    is_open = True
    for line in lines:
        alignment.grow(line, name)
        if line.startswith("//"):
            yield alignment
            alignment, is_open = _Alignment(), False
        elif line.startswith("# STOCKHOLM"):
            is_open = True
        elif line.startswith("#=GF"):
            _, feature, value = [*line.split(None, 2), "", ""][:3]
            alignment.family.setdefault(feature, value.strip())
        elif line.startswith(("#=GS", "#=GR")):
            parts = line.split(None, 3)
            if len(parts) < 4:
                raise damaged(name, f"not an annotation of a sequence: {line[:60]!r}")
            if line.startswith("#=GR"):
                alignment.by_letter.add((parts[1], parts[2]))
            own = alignment.annotations.setdefault(parts[1], {}).setdefault(parts[2], [])
            own.append(f"\n{parts[3].strip()}" if own and line.startswith("#=GS") else parts[3].strip())
        elif line.strip() and not line.startswith("#"):
            parts = line.split()
            if len(parts) != 2 or not is_open:
                raise damaged(name, f"not a line of an alignment: {line[:60]!r}")
            alignment.sequences.setdefault(parts[0], []).append(parts[1])
    if is_open:
        raise damaged(name, "it ends within an alignment, before '//'")


def _clustal(lines: Iterator[str], name: str) -> Iterator[_Alignment]:
    alignment = _Alignment()
    for line in lines:
        alignment.grow(line, name)
        if not line.strip() or (line[0].isspace() and _CONSERVED.fullmatch(line)):
            continue
        match = _CLUSTAL.match(line)
        if match is None:
            raise damaged(name, f"not a line of an alignment: {line[:60]!r}")
        alignment.sequences.setdefault(match[1], []).append(match[2])
    yield alignment


def detect(source: Source) -> list[FormatClaim]:
    """Claims the alignments."""
    return claim_all(source, Alignments(), "aligned sequences", kind="tabular")
